//! Texts under the establishment's key: read, moved over, gone with the key.

use sqlx::Row as _;

use super::*;
use crate::testing::world::World;
use crate::testing::worlds;

const WORDS: &str = "山田さんの資格喪失日をご確認ください。";

/// A filing of alpha's with a comment; its id.
async fn commented(world: &World) -> FilingId {
    let filing = world.alice.file("20260313_0123_資格喪失届.pdf").await;
    world.sato.post(&format!("{filing}/take"), &[]).await;
    let form = [("audience", "both"), ("comment", WORDS)];
    world.sato.post(&format!("{filing}/comments"), &form).await;
    let asked = [("reason", WORDS)];
    let (status, _, page) = world
        .alice
        .post(&format!("{filing}/withdrawal"), &asked)
        .await;
    assert!(status.is_redirection(), "{status} {page}");
    filing.rsplit('/').next().unwrap().parse().unwrap()
}

async fn sealed(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    for (table, column) in COLUMNS {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {column} AS sealed FROM {table}"
        )));
        let rows = rows.fetch_all(world.app.db.pool()).await.unwrap();
        assert_eq!(rows.len(), 1, "{table}");
        all.push(rows[0].get::<String, _>("sealed"));
    }
    all
}

/// Puts the rows back under the master key, as they were written before.
async fn as_before(world: &World) {
    for (table, column) in COLUMNS {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT id FROM {table}")));
        let row = row.fetch_one(world.app.db.pool()).await.unwrap();
        let id: String = row.get("id");
        let place = place(table, id.parse().unwrap());
        let sealed = world
            .app
            .keys
            .seal(Purpose::FilingComment, &place, WORDS.as_bytes());
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE {table} SET {column} = $1"
        )))
        .bind(sealed)
        .execute(world.app.db.pool())
        .await
        .unwrap();
    }
}

/// What the office reads about the filing.
async fn page(world: &World, filing: FilingId) -> String {
    let (status, page) = world.sato.get(&format!("/filings/{filing}")).await;
    assert_eq!(status, 200, "{page}");
    page
}

#[tokio::test]
async fn both_forms_are_read_and_the_old_one_is_moved_over() {
    for world in worlds().await {
        let filing = commented(&world).await;
        assert!(
            sealed(&world)
                .await
                .iter()
                .all(|text| text.starts_with("e:"))
        );
        assert_eq!(page(&world, filing).await.matches(WORDS).count(), 2);

        as_before(&world).await;
        assert_eq!(page(&world, filing).await.matches(WORDS).count(), 2);
        assert_eq!(reseal(&world.app).await.unwrap(), 2);
        assert!(
            sealed(&world)
                .await
                .iter()
                .all(|text| text.starts_with("e:"))
        );
        assert_eq!(page(&world, filing).await.matches(WORDS).count(), 2);
        assert_eq!(reseal(&world.app).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn destroying_the_key_destroys_the_texts_in_either_form() {
    for world in worlds().await {
        let filing = commented(&world).await;
        let new_form = sealed(&world).await;
        let key = super::super::establishment_key(&world.app, world.alpha)
            .await
            .unwrap();
        for old in [false, true] {
            if old {
                as_before(&world).await;
            }
            let mut tx = world.app.db.begin().await.unwrap();
            forget(&mut tx, world.alpha).await.unwrap();
            let destroyed = "UPDATE establishments SET key_wrapped = '' WHERE id = $1";
            sqlx::query(destroyed)
                .bind(world.alpha.to_string())
                .execute(&mut *tx)
                .await
                .unwrap();
            Db::commit(tx).await.unwrap();
            let shown = page(&world, filing).await;
            assert!(
                !shown.contains(WORDS) && shown.contains(DESTROYED),
                "{shown}"
            );
            // The master key alone opens none of what is left.
            for ((table, _), text) in COLUMNS.iter().zip(sealed(&world).await) {
                let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT id FROM {table}")));
                let row = row.fetch_one(world.app.db.pool()).await.unwrap();
                let place = place(table, row.get::<String, _>("id").parse().unwrap());
                let opened = world.app.keys.open(Purpose::FilingComment, &place, &text);
                assert!(opened.is_err(), "{table}");
            }
            let back = "UPDATE establishments SET key_wrapped = $1 WHERE id = $2";
            sqlx::query(back)
                .bind(key.seal(&world.app.keys, world.alpha))
                .bind(world.alpha.to_string())
                .execute(world.app.db.pool())
                .await
                .unwrap();
        }
        assert!(new_form.iter().all(|text| !text.is_empty()));
        assert_eq!(sealed(&world).await, ["", ""]);
    }
}

#[tokio::test]
async fn what_lay_under_a_key_that_was_destroyed_before_is_emptied() {
    for world in worlds().await {
        commented(&world).await;
        as_before(&world).await;
        sqlx::query("UPDATE establishments SET key_wrapped = ''")
            .execute(world.app.db.pool())
            .await
            .unwrap();
        reseal(&world.app).await.unwrap();
        assert_eq!(sealed(&world).await, ["", ""]);
    }
}

#[tokio::test]
async fn a_text_moved_to_another_row_or_establishment_does_not_open() {
    let world = World::new().await;
    let key = super::super::establishment_key(&world.app, world.alpha)
        .await
        .unwrap();
    let other = super::super::establishment_key(&world.app, world.beta)
        .await
        .unwrap();
    let sealed = key.seal_text("filing_comments/1", WORDS);
    assert_eq!(
        *key.open_text("filing_comments/1", &sealed).unwrap(),
        WORDS.as_bytes()
    );
    assert!(key.open_text("filing_comments/2", &sealed).is_err());
    assert!(other.open_text("filing_comments/1", &sealed).is_err());
}
