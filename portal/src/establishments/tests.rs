//! Establishments, users and codes in both databases.

use super::*;
use crate::db::Db;
use crate::testing::{NOW, databases};

pub(crate) fn new_user(login: &str) -> NewUser {
    NewUser {
        login: LoginName::new(login).unwrap(),
        name: Name::new("鈴木 花子").unwrap(),
        email: MailAddress::new("suzuki@example.jp").unwrap(),
        password_hash: "unused".to_owned(),
    }
}

fn new_establishment(number: &str) -> NewEstablishment {
    NewEstablishment {
        number: number.parse().unwrap(),
        name: Name::new(" 見本株式会社 ").unwrap(),
        device_limit: DeviceLimit::default(),
    }
}

async fn registered(db: &Db, keys: &MasterKey) -> (EstablishmentId, UserId) {
    let mut tx = db.begin().await.unwrap();
    let establishment = new_establishment("0123");
    let admin = new_user("suzuki");
    let ids = register(&mut tx, keys, &Actor::System, &establishment, &admin, NOW)
        .await
        .unwrap();
    Db::commit(tx).await.unwrap();
    ids
}

#[tokio::test]
async fn a_registered_establishment_is_found_with_its_admin_and_opens_its_secrets() {
    for db in databases().await {
        let keys = MasterKey::generate();
        let (id, user) = registered(&db, &keys).await;
        let found = store::find(&db, id).await.unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.device_limit),
            ("見本株式会社", 3)
        );
        assert_eq!(found.created, NOW);
        let number = found.number;
        assert_eq!(
            store::find_by_number(&db, number).await.unwrap(),
            Some(found.clone())
        );
        assert_eq!(store::list(&db).await.unwrap(), [found]);
        let users = store::users(&db, id).await.unwrap();
        assert_eq!((users.len(), users[0].id), (1, user));
        assert_eq!(users[0].role, Role::Admin);

        let mut tx = db.begin().await.unwrap();
        let password = open_zip_password(&mut tx, &keys, id).await.unwrap();
        assert_eq!(password.len(), 20);
        let other = MasterKey::generate();
        assert!(matches!(
            open_zip_password(&mut tx, &other, id).await,
            Err(SecretError::Unsealable(_))
        ));
        let changed = change_zip_password(&mut tx, &keys, &Actor::System, id, NOW)
            .await
            .unwrap()
            .unwrap();
        assert_ne!(*changed, *password);
        let opened = open_zip_password(&mut tx, &keys, id).await.unwrap();
        assert_eq!(*opened, *changed);
    }
}

#[tokio::test]
async fn a_number_or_a_user_id_that_is_taken_is_named() {
    for db in databases().await {
        let keys = MasterKey::generate();
        registered(&db, &keys).await;
        for (number, login, sentence) in [
            ("0123", "tanaka", "事業所番号「0123」はすでに"),
            ("0124", "Suzuki", "このユーザーIDはすでに"),
        ] {
            let mut tx = db.begin().await.unwrap();
            let (new, user) = (new_establishment(number), new_user(login));
            let error = register(&mut tx, &keys, &Actor::System, &new, &user, NOW)
                .await
                .unwrap_err();
            assert!(error.page_text().unwrap().starts_with(sentence), "{error}");
        }
        assert_eq!(store::list(&db).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_user_joins_a_second_establishment_once() {
    for db in databases().await {
        let keys = MasterKey::generate();
        let (first, _) = registered(&db, &keys).await;
        let mut tx = db.begin().await.unwrap();
        let new = new_user("sharoushi");
        let user = add_user(
            &mut tx,
            &keys,
            &Actor::System,
            first,
            &new,
            Role::Added,
            NOW,
        )
        .await
        .unwrap();
        Db::commit(tx).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert!(store::is_live_member(&mut tx, first, user).await.unwrap());
        let again = add_member(
            &mut tx,
            &keys,
            &Actor::System,
            first,
            user,
            Role::Added,
            NOW,
        )
        .await;
        assert!(matches!(again, Err(AddError::MemberAlready)));
    }
}

#[tokio::test]
async fn a_code_is_kept_as_a_hash_alone_and_only_for_members() {
    for db in databases().await {
        let keys = MasterKey::generate();
        let (id, user) = registered(&db, &keys).await;
        let mut tx = db.begin().await.unwrap();
        let issued = issue_code(&mut tx, &keys, &Actor::System, id, user, NOW)
            .await
            .unwrap()
            .unwrap();
        let stranger = UserId::new();
        let none = issue_code(&mut tx, &keys, &Actor::System, id, stranger, NOW)
            .await
            .unwrap();
        assert!(none.is_none());
        Db::commit(tx).await.unwrap();
        let codes = store::codes(&db, id).await.unwrap();
        assert_eq!((codes.len(), codes[0].id), (1, issued.id));
        assert_eq!(codes[0].expires, NOW + Duration::days(30));
        let plain = issued.code.to_string().replace('-', "");
        let kept: String = sqlx::query_scalar("SELECT code_hash FROM registration_codes")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert!(!kept.contains(&plain));
        assert_eq!(kept, issued.code.hash(&keys));
    }
}

#[test]
fn a_code_is_read_however_it_was_typed() {
    let keys = MasterKey::generate();
    let code = RegistrationCode::read("ABCD-EFGH-2345").unwrap();
    assert_eq!(code.to_string(), "ABCD-EFGH-2345");
    for typed in [
        "abcdefgh2345",
        " abcd efgh 2345 ",
        "ＡＢＣＤ－ＥＦＧＨ－２３４５",
        "ABCDーEFGHー2345",
        "abcd\u{3000}efgh\u{3000}2345",
    ] {
        let read = RegistrationCode::read(typed).unwrap();
        assert_eq!(read.hash(&keys), code.hash(&keys), "{typed}");
    }
    for typed in ["", "ABCD-EFGH-234", "ABCD-EFGH-23456", "ABCD-EFGH-234あ"] {
        assert!(RegistrationCode::read(typed).is_none(), "{typed}");
    }
}

#[test]
fn a_field_that_does_not_fit_is_refused() {
    for text in ["", "  ", "a\nb", &"あ".repeat(101)] {
        assert_eq!(Name::new(text), Err(FieldError::Name), "{text:?}");
    }
    for text in ["ab", "a b c", "名前です", &"a".repeat(65)] {
        assert_eq!(LoginName::new(text), Err(FieldError::Login), "{text:?}");
    }
    for text in ["", "suzuki", "a@b@c", "suzuki@例え.jp", "a b@example.jp"] {
        let read = MailAddress::new(text);
        assert_eq!(read, Err(FieldError::MailAddress), "{text:?}");
    }
    assert_eq!(DeviceLimit::new(0), Err(FieldError::DeviceLimit));
    assert_eq!(DeviceLimit::new(101), Err(FieldError::DeviceLimit));
}
