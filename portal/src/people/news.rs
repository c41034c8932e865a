//! What all admins of an establishment are told by mail when something about its people or
//! PCs changes (NIST SP 800-63B, 4.2: always notify). No name, no number: who knows nothing
//! of it asks, and who does it himself knows.

use time::{Duration, OffsetDateTime};

use super::store;
use crate::app::App;
use crate::db::{StoreError, Tx};
use crate::ids::EstablishmentId;
use crate::mail::{outbox, texts};

/// How long such a mail is worth sending.
const LIFETIME: Duration = Duration::days(3);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A user was added.
    UserAdded,
    /// A user was removed.
    UserRemoved,
    /// Somebody became an admin.
    AdminAdded,
    /// An admin became an added user.
    AdminEnded,
    /// A user's permissions were changed.
    PermissionsChanged,
    /// A user's second factor was taken off.
    SecondFactorReset,
    /// A user got a new initial password.
    PasswordReset,
    /// A user's mail address changed.
    AddressChanged,
    /// A PC was revoked.
    DeviceRevoked,
    /// The fund revoked a PC.
    DeviceRevokedByFund,
    /// The fund gave a user a new initial password.
    PasswordResetByFund,
    /// Guessing at a user's sign-in was stopped; for the user.
    SignInStopped,
    /// The fund let a user sign in again; for the user.
    SignInFreed,
    /// A registration code for another PC was issued.
    CodeIssued,
    /// A hand-over was proposed.
    HandoverProposed,
    /// A hand-over was accepted.
    HandoverDone,
    /// The fund made somebody an admin.
    AdminByFund,
    /// Somebody signed in with a recovery code.
    RecoveryCodeUsed,
    /// The fund decided about a request.
    RequestDecided,
    /// The other side proposed a delegation.
    DelegationProposed,
    /// A delegation stands.
    DelegationAccepted,
    /// A delegation was ended.
    DelegationEnded,
    /// A passkey was registered; for its owner.
    PasskeyAdded,
    /// A passkey was removed; for its owner.
    PasskeyRemoved,
    /// A passkey was copied, and is removed; for its owner.
    PasskeyCopied,
}

impl News {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::UserAdded,
        Self::UserRemoved,
        Self::AdminAdded,
        Self::AdminEnded,
        Self::PermissionsChanged,
        Self::SecondFactorReset,
        Self::PasswordReset,
        Self::AddressChanged,
        Self::DeviceRevoked,
        Self::CodeIssued,
        Self::HandoverProposed,
        Self::HandoverDone,
        Self::AdminByFund,
        Self::RecoveryCodeUsed,
        Self::RequestDecided,
        Self::DelegationProposed,
        Self::DelegationAccepted,
        Self::DelegationEnded,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::PasskeyCopied,
        Self::DeviceRevokedByFund,
        Self::PasswordResetByFund,
        Self::SignInStopped,
        Self::SignInFreed,
    ];

    /// The sentence of the mail.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::UserAdded => "利用者が追加されました。",
            Self::UserRemoved => {
                "利用者の登録が解除されました。その利用者のパソコンは、もう接続できません。"
            }
            Self::AdminAdded => "事業所の管理者が追加されました。",
            Self::AdminEnded => "事業所の管理者1名が、追加ユーザーに変わりました。",
            Self::PermissionsChanged => "追加ユーザーの権限が変更されました。",
            Self::SecondFactorReset => {
                "利用者1名の認証アプリとパスキーが解除されました。次の接続からは、メールで届くワンタイムパスワードを使います。"
            }
            Self::PasswordReset => "利用者1名のパスワードが作り直されました。",
            Self::AddressChanged => "利用者1名のメールアドレスが変更されました。",
            Self::DeviceRevoked => {
                "パソコン1台の登録が解除されました。そのパソコンは、もう接続できません。"
            }
            Self::DeviceRevokedByFund => {
                "基金事務局が、パソコン1台の登録を解除しました。そのパソコンは、もう接続できません。"
            }
            Self::PasswordResetByFund => {
                "基金事務局が、利用者1名のパスワードを作り直しました。新しい初期パスワードは、郵便でお届けします。"
            }
            Self::SignInStopped => {
                "続けて正しく入力されなかったため、あなたのユーザーIDでのログインを、そのパソコンで24時間止めました。お急ぎのときは、基金事務局へご連絡ください。"
            }
            Self::SignInFreed => {
                "基金事務局が、あなたのユーザーIDでのログインの停止を解除しました。"
            }
            Self::CodeIssued => "パソコンを追加するための登録コードが発行されました。",
            Self::HandoverProposed => {
                "管理者の引継ぎが申し込まれました。後任の方の承諾を待っています。"
            }
            Self::HandoverDone => "管理者の引継ぎが完了しました。",
            Self::AdminByFund => "基金事務局が、事業所の管理者を登録しました。",
            Self::RecoveryCodeUsed => "利用者1名が、回復コードを使ってログインしました。",
            Self::RequestDecided => "基金事務局へのお申し出の結果が出ました。",
            Self::DelegationProposed => {
                "手続きの代理の申込みが届いています。「代理の設定」の画面でご確認ください。"
            }
            Self::DelegationAccepted => "手続きの代理が始まりました。",
            Self::DelegationEnded => "手続きの代理が終わりました。",
            Self::PasskeyAdded => "あなたのユーザーIDに、パスキーが登録されました。",
            Self::PasskeyRemoved => "あなたのユーザーIDから、パスキーが削除されました。",
            Self::PasskeyCopied => {
                "あなたのパスキーの1つが、複製された疑いがあるため使えなくなりました。ほかの方法でログインできます。"
            }
        }
    }
}

/// Queues a mail to every admin of the establishment. After the commit, tell
/// `signals.mail_queued()`.
pub async fn tell(
    tx: &mut Tx,
    app: &App,
    establishment: EstablishmentId,
    news: News,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    for admin in store::admins(tx, establishment).await? {
        tell_one(tx, app, &admin.email, news, now).await?;
    }
    Ok(())
}

/// Queues the mail to one address: that of somebody who is no admin but concerned.
pub async fn tell_one(
    tx: &mut Tx,
    app: &App,
    address: &str,
    news: News,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let mail = texts::people_changed(&app.config, address, news.sentence());
    outbox::queue(tx, &app.keys, mail, now, now + LIFETIME).await?;
    Ok(())
}
