//! The log and its chain.

use super::*;
use crate::db::Db;
use crate::testing::databases;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-03-13 10:00 +9);

async fn five_rows(db: &Db, key: &MasterKey) {
    for _ in 0..5 {
        let mut tx = db.begin().await.unwrap();
        record(&mut tx, key, &Actor::System, Act::CalendarEdited, NOW)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
    }
}

async fn first_bad(db: &Db, key: &MasterKey) -> Result<i64, Broken> {
    match verify(db, key).await {
        Ok(rows) => Ok(rows),
        Err(VerifyError::Broken(broken)) => Err(broken),
        Err(VerifyError::Store(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_untouched_log_verifies() {
    for db in databases().await {
        let key = MasterKey::generate();
        assert_eq!(first_bad(&db, &key).await, Ok(0));
        five_rows(&db, &key).await;
        assert_eq!(first_bad(&db, &key).await, Ok(5));
    }
}

#[tokio::test]
async fn every_kind_of_tampering_names_the_first_bad_row() {
    let tamperings: [(&'static str, Broken); 6] = [
        (
            "UPDATE audit_log SET reason = 'x' WHERE seq = 3",
            Broken::Row { seq: 3 },
        ),
        (
            "UPDATE audit_log SET at_ms = at_ms + 1 WHERE seq = 1",
            Broken::Row { seq: 1 },
        ),
        (
            "DELETE FROM audit_log WHERE seq = 3",
            Broken::Row { seq: 4 },
        ),
        (
            "DELETE FROM audit_log WHERE seq = 5",
            Broken::Cut {
                last: 4,
                expected: 5,
            },
        ),
        (
            "DELETE FROM audit_log",
            Broken::Cut {
                last: 0,
                expected: 5,
            },
        ),
        (
            "UPDATE audit_log SET seq = CASE seq WHEN 4 THEN 50 ELSE seq END",
            Broken::Row { seq: 5 },
        ),
    ];
    for (tampering, broken) in tamperings {
        for db in databases().await {
            let key = MasterKey::generate();
            five_rows(&db, &key).await;
            sqlx::query(tampering).execute(db.pool()).await.unwrap();
            assert_eq!(
                first_bad(&db, &key).await,
                Err(broken.clone()),
                "{tampering}"
            );
        }
    }
}

#[tokio::test]
async fn a_log_rewritten_without_the_master_key_is_found() {
    for db in databases().await {
        five_rows(&db, &MasterKey::generate()).await;
        assert_eq!(
            first_bad(&db, &MasterKey::generate()).await,
            Err(Broken::Row { seq: 1 })
        );
    }
}

#[tokio::test]
async fn parallel_writers_keep_one_chain() {
    for db in databases().await {
        let key = MasterKey::generate();
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (db, key) = (db.clone(), key.clone());
                tokio::spawn(async move { five_rows(&db, &key).await })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(first_bad(&db, &key).await, Ok(40));
    }
}
