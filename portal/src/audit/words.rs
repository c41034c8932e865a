//! The words of audit rows in Japanese, for those who read the log.
//!
//! A row keeps its word for ever; what stands here may be worded better at any time. A test
//! goes through the source of [`super::Act`]: an act without its line here fails it.

/// Each act with what people read, in the order of the menu that one chooses from.
pub(super) const ACTS: &[(&str, &str)] = &[
    ("staff_added", "職員のアカウントを作成"),
    ("staff_signed_in", "職員がログイン"),
    ("staff_sign_in_failed", "職員のログインに失敗"),
    ("staff_signed_out", "職員がログアウト"),
    ("gateway_added", "接続サーバーを登録"),
    ("gateway_renewed", "接続サーバーの証明書を更新"),
    ("gateway_retired", "接続サーバーの利用を終了"),
    ("authority_made", "認証局を作成"),
    ("establishment_added", "事業所を登録"),
    ("user_added", "利用者を登録"),
    ("membership_added", "利用者を事業所に追加"),
    ("membership_ended", "利用者を事業所から外した"),
    ("role_changed", "利用者の役割を変更"),
    ("permissions_changed", "利用者の権限を変更"),
    ("user_renamed", "利用者の氏名を変更"),
    ("address_change_asked", "メールアドレスの変更を申込み"),
    ("address_changed", "メールアドレスを変更"),
    ("handover_proposed", "管理者の引継ぎを依頼"),
    ("handover_closed", "管理者の引継ぎが終了"),
    ("request_made", "基金への申請"),
    ("request_closed", "基金への申請の処理"),
    ("terms_published", "利用規約を公開"),
    ("terms_accepted", "利用規約に同意"),
    ("contacts_changed", "事業所情報を確認・変更"),
    ("own_contacts_changed", "自分の連絡先を確認・変更"),
    ("recovery_codes_made", "回復用コードを発行"),
    ("recovery_code_used", "回復用コードでログイン"),
    ("staff_password_changed", "職員がパスワードを変更"),
    ("registration_code_issued", "登録コードを発行"),
    ("enrolment_requested", "パソコンの登録を申請"),
    ("device_approved", "パソコンを承認"),
    ("enrolment_refused", "パソコンの登録を却下"),
    ("device_revoked", "パソコンの登録を取消し"),
    ("device_certificate_renewed", "パソコンの証明書を更新"),
    ("session_opened", "接続を開始"),
    ("session_moved", "接続先のサーバーを変更"),
    ("session_refused", "接続を拒否"),
    ("session_ended", "接続を終了"),
    ("session_shortened", "接続の終了時刻を繰上げ"),
    ("code_sent", "ワンタイムパスワードを送信"),
    ("signed_in", "利用者がログイン"),
    ("sign_in_failed", "利用者のログインに失敗"),
    ("delegation_proposed", "代理を申込み"),
    ("delegation_accepted", "代理を承諾"),
    ("delegation_ended", "代理が終了"),
    ("group_joined", "複数事業所管理に登録"),
    ("sharoushi_office_made", "社労士事務所として登録"),
    ("delegate_acts", "代理を開始"),
    ("delegate_leaves", "代理の操作を終了"),
    ("staff_role_changed", "職員の役割を変更"),
    ("staff_disabled", "職員のアカウントを停止"),
    ("staff_password_set", "職員が初回のパスワードを設定"),
    ("establishment_ended", "事業所の利用を終了"),
    ("establishment_end_taken_back", "事業所の利用終了を取消し"),
    ("key_destroyed", "事業所の鍵を破棄"),
    ("approval_proposed", "承認を申請"),
    ("approval_given", "承認"),
    ("approval_refused", "承認の申請を却下"),
    ("approval_withdrawn", "承認の申請を取下げ"),
    ("factor_shown", "もう一度の本人確認"),
    ("signed_out", "利用者がログアウト"),
    ("password_changed", "利用者がパスワードを変更"),
    ("authenticator_added", "認証アプリを登録"),
    ("authenticator_removed", "認証アプリを解除"),
    ("password_reset", "初期パスワードを再発行"),
    ("submitted", "届書を提出"),
    ("upload_refused", "提出を受け付けず"),
    ("filing_read", "届書を表示"),
    ("filing_taken", "審査を開始"),
    ("filing_assigned", "審査の担当を指定"),
    ("filing_commented", "届書に書込み"),
    ("withdrawal_asked", "取下げを依頼"),
    ("withdrawal_declined", "取下げの依頼を断り"),
    ("filing_released", "審査待ちに戻した"),
    ("filing_returned", "届書を差戻し"),
    ("filing_decided", "届書を決定"),
    ("filing_withdrawn", "届書を取下げ"),
    ("notice_drafted", "決定通知書の下書きを作成"),
    ("notice_issued", "通知書を発行"),
    ("notice_read", "通知書を表示"),
    ("notice_fetched", "通知書を受取り"),
    ("batch_made", "一括発行を準備"),
    ("batch_released", "一括発行を実行"),
    ("batch_discarded", "一括発行を破棄"),
    ("batch_read", "一括発行の中身を表示"),
    ("batch_reminded", "未受領の事業所へお知らせ"),
    ("notice_recalled", "通知書を取消し"),
    ("notice_destroyed", "通知書を廃棄"),
    ("retention_changed", "保存期間を変更"),
    ("records_packed", "電子帳簿の記録を書出し"),
    ("destructions_exported", "廃棄記録を書出し"),
    ("zip_password_shown", "zipパスワードを表示"),
    ("zip_password_changed", "zipパスワードを変更"),
    ("file_quarantined", "ファイルを隔離"),
    ("quarantine_released", "隔離を解除"),
    ("quarantine_destroyed", "隔離したファイルを廃棄"),
    ("cover_sheet_made", "送付状を作成"),
    ("paper_filing_recorded", "紙の届書を記録"),
    ("reminders_queued", "締切のお知らせを送信"),
    ("reminders_switched", "締切のお知らせの設定を変更"),
    ("cycle_edited", "毎月の締切を変更"),
    ("filing_kind_edited", "届書の種類を変更"),
    ("calendar_edited", "利用日カレンダーを変更"),
    ("letter_reissued", "お知らせの用紙を再発行"),
    ("announcement_written", "お知らせを作成・変更"),
    ("announcement_withdrawn", "お知らせを取下げ"),
    ("inquiry_opened", "お問い合わせ"),
    ("inquiry_continued", "お問い合わせへの書込み"),
    ("inquiry_closed", "お問い合わせを終了"),
    ("task_raised", "タスクが発生"),
    ("task_done", "タスクを完了"),
    ("history_exported", "送受信履歴を書出し"),
    ("backed_up", "バックアップを作成"),
    ("audit_exported", "操作の記録を書出し"),
    ("audit_checked", "操作の記録を検証"),
    ("sign_in_freed", "ログインの停止を解除"),
    ("staff_reset", "職員のログイン情報を作り直し"),
    ("passkey_added", "パスキーを登録"),
    ("passkey_removed", "パスキーを削除"),
    ("passkey_copied", "複製の疑いでパスキーを削除"),
];

/// What people read for the word of an act; the word itself, if an older program wrote it.
pub(super) fn act(word: &str) -> &str {
    let found = ACTS.iter().find(|(known, _)| *known == word);
    found.map_or(word, |(_, label)| label)
}

/// What people read for the kind of an actor.
pub(super) fn actor(kind: &str) -> &str {
    match kind {
        "staff" => "職員",
        "member" => "利用者",
        "delegate" => "利用者（代理）",
        "device" => "パソコン",
        "stranger" => "ログイン前",
        "command_line" => "管理用の命令",
        "system" => "システム（自動）",
        other => other,
    }
}

/// What people read for the kind of an object.
pub(super) fn object(kind: &str) -> &str {
    match kind {
        "staff" => "職員",
        "user" | "membership" => "利用者",
        "establishment" => "事業所",
        "filing" => "届書",
        "submission" => "受付",
        "notice" => "通知書",
        "batch" => "一括発行",
        "device" | "enrolment" => "パソコン",
        "session" => "接続",
        "approval" => "承認の申請",
        "delegation" => "代理",
        "gateway" => "接続サーバー",
        "quarantine" => "隔離したファイル",
        "calendar" => "カレンダー",
        "filing_kind" => "届書の種類",
        "announcement" => "お知らせ",
        "inquiry" => "お問い合わせ",
        "task" => "タスク",
        "terms" => "利用規約",
        "kind" => "通知書の種類",
        "passkey" => "パスキー",
        "handover" => "引継ぎ",
        "request" => "申請",
        "registration_code" => "登録コード",
        "cover_sheet" => "送付状",
        "authority" => "認証局",
        "refusal" => "理由",
        "pack" | "history" | "log" => "書き出したファイル",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words and kinds of objects in the source of `Act::columns`.
    fn columns() -> Vec<(String, String)> {
        let source = include_str!("acts.rs");
        let (_, body) = source
            .split_once("/// Word, object's kind, object's id")
            .unwrap();
        let mut found = Vec::new();
        for arm in body.split("=>").skip(1) {
            let texts: Vec<&str> = arm.split('"').collect();
            if let [_, word, _, kind, ..] = texts[..] {
                found.push((word.to_owned(), kind.to_owned()));
            }
        }
        found
    }

    #[test]
    fn every_act_and_every_object_has_its_japanese() {
        let columns = columns();
        assert!(columns.len() > 100, "{}", columns.len());
        for (word, kind) in &columns {
            assert_ne!(act(word), word, "no Japanese for the act {word}");
            assert!(kind.is_empty() || object(kind) != kind, "none for {kind}");
        }
        for (word, label) in ACTS {
            assert!(
                columns.iter().any(|(known, _)| known == word),
                "{word} is no act"
            );
            assert!(!label.is_empty());
        }
        let mut labels: Vec<&str> = ACTS.iter().map(|(_, label)| *label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ACTS.len(), "two acts read alike");
    }
}
