@echo off
rem Runs all tests, on a fresh machine too: makes .venv, installs, then runs pytest.
rem Arguments go on to pytest: run_tests.bat tests\test_docs.py -x
setlocal
cd /d "%~dp0"
call scripts\python.bat || exit /b 1
%PYTHON% scripts\prepare.py requirements-dev.txt >nul || exit /b 1
.venv\Scripts\python.exe -m pytest -n auto --dist loadfile --no-loadscope-reorder %*
exit /b %errorlevel%
