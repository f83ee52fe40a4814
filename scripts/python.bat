@echo off
rem Called by the scripts in the folder above: sets PYTHON to a command that starts Python 3.11 or newer.
rem Only trying it out tells: "python" may be the stand-in that opens the Store.
set "TRY=import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
for %%v in (3.13 3.12 3.11 3) do (
    py -%%v -c "%TRY%" >nul 2>nul && set "PYTHON=py -%%v" && exit /b 0
)
for %%p in (python3 python) do (
    %%p -c "%TRY%" >nul 2>nul && set "PYTHON=%%p" && exit /b 0
)
echo Python 3.11 or newer is needed, and none was found. Get it from https://www.python.org/downloads/ 1>&2
exit /b 1
