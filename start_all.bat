@echo off
rem Starts everything, on a fresh machine too: makes .venv, installs, then runs both servers until Ctrl+C.
rem Arguments go on to "manage.py start": start_all.bat --slow-motion --open
setlocal
cd /d "%~dp0"
call scripts\python.bat || exit /b 1
%PYTHON% scripts\prepare.py requirements.txt >nul || exit /b 1
.venv\Scripts\python.exe manage.py start %*
exit /b %errorlevel%
