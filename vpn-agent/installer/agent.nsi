; The installer for one user: no administrator rights, nothing outside the user's own folders.
; Made by scripts/package-windows, which defines EXE, OUT, VERSION, VERSION_NUMBERS, ICON and,
; where a certificate is configured, SIGN (the command that signs the file it is given).
;
;   電子連携サービス-setup.exe /S /GATEWAY=https://gateway.fund.example
;   uninstall.exe /S            removes this PC's registration and key as well
;   uninstall.exe /S /KEEP      leaves them for the next installation
;
; Exit codes: 0 done, 1 cancelled, 2 wrong /GATEWAY, 3 the agent could not be ended,
; 4 a file could not be written, 1618 another run of the installer is busy.

Unicode true
Target amd64-unicode
SetCompressor /SOLID lzma
ManifestDPIAware true
ManifestSupportedOS Win10
RequestExecutionLevel user

!include "FileFunc.nsh"
!include "LogicLib.nsh"
!include "MUI2.nsh"

!define NAME "電子連携サービス"
!define SETTINGS "Software\Renkei\Agent"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\Renkei"
!define CANCELLED 1
!define WRONG_GATEWAY 2
!define STILL_RUNNING 3
!define CANNOT_WRITE 4
!define ALREADY_INSTALLING 1618

; How long the agent may take to end: it tells the fund, and closes its window.
!define END_TRIES 40
!define END_PAUSE_MS 250

Name "${NAME}"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\Renkei"
Icon "${ICON}"
UninstallIcon "${ICON}"
BrandingText "${NAME} ${VERSION}"

VIProductVersion "${VERSION_NUMBERS}"
VIAddVersionKey /LANG=1041 "ProductName" "${NAME}"
VIAddVersionKey /LANG=1041 "CompanyName" "Renkei"
VIAddVersionKey /LANG=1041 "FileDescription" "${NAME} セットアップ"
VIAddVersionKey /LANG=1041 "FileVersion" "${VERSION}"
VIAddVersionKey /LANG=1041 "ProductVersion" "${VERSION}"
VIAddVersionKey /LANG=1041 "LegalCopyright" "MIT OR Apache-2.0"

!ifdef SIGN
!uninstfinalize '${SIGN} "%1"' = 0
!endif

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_FINISHPAGE_TITLE "インストールが完了しました"
!define MUI_FINISHPAGE_TEXT "デスクトップまたはスタートメニューの「${NAME}」から始められます。"
!define MUI_FINISHPAGE_RUN "$INSTDIR\vpn-agent.exe"
!define MUI_FINISHPAGE_RUN_PARAMETERS "open"
!define MUI_FINISHPAGE_RUN_TEXT "${NAME}を開く"
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "Japanese"

Var Gateway
Var Keep

; One run at a time, installing or uninstalling: the second says so and leaves everything as it is.
!macro OneAtATime
  System::Call 'kernel32::CreateMutexW(p 0, i 0, w "Local\RenkeiSetup") p .r0 ?e'
  Pop $1
  ${If} $1 = 183 ; ERROR_ALREADY_EXISTS
    MessageBox MB_OK|MB_ICONEXCLAMATION "${NAME}のセットアップがすでに動いています。そちらが終わるまでお待ちください。" /SD IDOK
    SetErrorLevel ${ALREADY_INSTALLING}
    Quit
  ${EndIf}
!macroend

; Ends the running agent, so that its file can be replaced or removed.
!macro EndAgent
  StrCpy $R0 0
  ${If} ${FileExists} "$INSTDIR\vpn-agent.exe"
    DetailPrint "動作中の${NAME}を終了しています"
    nsExec::Exec '"$INSTDIR\vpn-agent.exe" quit'
    Pop $0
    ${Do}
      ClearErrors
      FileOpen $1 "$INSTDIR\vpn-agent.exe" a
      ${IfNot} ${Errors}
        FileClose $1
        ${Break}
      ${EndIf}
      IntOp $R0 $R0 + 1
      ${If} $R0 >= ${END_TRIES}
        MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "${NAME}が動いているため、続けられません。画面を閉じてから「再試行」を押してください。" /SD IDCANCEL IDRETRY +3
        SetErrorLevel ${STILL_RUNNING}
        Quit
        StrCpy $R0 0
      ${EndIf}
      Sleep ${END_PAUSE_MS}
    ${Loop}
  ${EndIf}
!macroend

Function .onInit
  !insertmacro OneAtATime
  Call ReadGateway
  ${If} $Gateway != "none"
    StrCpy $0 $Gateway 8
    StrLen $1 $Gateway
    ${If} $0 != "https://"
    ${OrIf} $1 < 9
      MessageBox MB_OK|MB_ICONSTOP "/GATEWAY には https:// で始まる接続先を指定してください。" /SD IDOK
      SetErrorLevel ${WRONG_GATEWAY}
      Quit
    ${EndIf}
  ${EndIf}
FunctionEnd

; What follows /GATEWAY= on the command line up to a space or its end, without quotation marks;
; "none" without it. GetOptions takes the slashes of a URL for further options.
Function ReadGateway
  StrCpy $Gateway "none"
  ${GetParameters} $R9
  StrCpy $0 0
  ${Do}
    StrCpy $1 $R9 9 $0
    ${If} $1 == ""
      Return
    ${EndIf}
    IntOp $0 $0 + 1
  ${LoopUntil} $1 == "/GATEWAY="
  IntOp $0 $0 + 8
  StrCpy $Gateway ""
  ${Do}
    StrCpy $1 $R9 1 $0
    IntOp $0 $0 + 1
    ${If} $1 == ""
    ${OrIf} $1 == " "
      Return
    ${ElseIf} $1 != '"'
      StrCpy $Gateway "$Gateway$1"
    ${EndIf}
  ${Loop}
FunctionEnd

Section
  SetOutPath "$INSTDIR"
  !insertmacro EndAgent

  ; First beside the old one, then in its place: a full disk leaves the old one whole.
  ClearErrors
  File "/oname=vpn-agent.install.exe" "${EXE}"
  ${IfNot} ${Errors}
    Delete "$INSTDIR\vpn-agent.exe"
    Rename "$INSTDIR\vpn-agent.install.exe" "$INSTDIR\vpn-agent.exe"
  ${EndIf}
  ${If} ${Errors}
    Delete "$INSTDIR\vpn-agent.install.exe"
    MessageBox MB_OK|MB_ICONSTOP "ファイルを書き込めませんでした。ディスクの空き容量をご確認ください。" /SD IDOK
    SetErrorLevel ${CANNOT_WRITE}
    Abort
  ${EndIf}
  ; What an update by the agent itself may have left: this installation is the newer word.
  Delete "$INSTDIR\vpn-agent.new.*"
  Delete "$INSTDIR\vpn-agent.old.exe"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateShortCut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\vpn-agent.exe" "open" "$INSTDIR\vpn-agent.exe" 0
  CreateShortCut "$DESKTOP\${NAME}.lnk" "$INSTDIR\vpn-agent.exe" "open" "$INSTDIR\vpn-agent.exe" 0

  ; Without /GATEWAY an update leaves what is there.
  ${If} $Gateway != "none"
    WriteRegStr HKCU "${SETTINGS}" "GatewayUrl" $Gateway
  ${EndIf}
  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "${NAME}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\vpn-agent.exe"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "Renkei"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" $0
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
SectionEnd

Function un.onInit
  !insertmacro OneAtATime
  StrCpy $Keep "no"
  ${GetParameters} $R9
  ClearErrors
  ${GetOptions} $R9 "/KEEP" $0
  ${IfNot} ${Errors}
    StrCpy $Keep "yes"
  ${ElseIfNot} ${Silent}
    MessageBox MB_YESNOCANCEL|MB_ICONQUESTION|MB_DEFBUTTON2 "このパソコンの登録情報も消しますか。$\r$\n$\r$\n「はい」　：消します。もう一度使うには、新しい登録コードと基金事務局の承認が必要です。$\r$\n「いいえ」：残します。入れ直せば、そのまま使えます。" IDYES +4 IDNO +2
    Quit
    StrCpy $Keep "yes"
  ${EndIf}
FunctionEnd

Section "Uninstall"
  !insertmacro EndAgent
  ${If} $Keep == "no"
    ; Keys in the PC's security chip lie in no folder.
    nsExec::Exec '"$INSTDIR\vpn-agent.exe" forget'
    Pop $0
    RMDir /r "$LOCALAPPDATA\Renkei"
  ${EndIf}
  Delete "$SMPROGRAMS\${NAME}.lnk"
  Delete "$DESKTOP\${NAME}.lnk"
  Delete "$INSTDIR\vpn-agent.exe"
  Delete "$INSTDIR\vpn-agent.install.exe"
  Delete "$INSTDIR\vpn-agent.new.*"
  Delete "$INSTDIR\vpn-agent.old.exe"
  Delete "$INSTDIR\uninstall.exe"
  SetOutPath "$TEMP"
  ; Only if empty: what somebody else put there is not ours to remove.
  RMDir "$INSTDIR"
  RMDir "$LOCALAPPDATA\Programs"
  ; What the agent's own page may have offered: this program for opening zips.
  DeleteRegKey HKCU "Software\Classes\Renkei.Zip"
  DeleteRegValue HKCU "Software\Classes\.zip\OpenWithProgids" "Renkei.Zip"
  DeleteRegKey HKCU "${SETTINGS}"
  DeleteRegKey /ifempty HKCU "Software\Renkei"
  DeleteRegKey HKCU "${UNINSTALL}"
SectionEnd
