//! A copy restored is the portal that was copied, from either database to either.

use super::*;
use crate::devices::tests::Fund;
use crate::testing::{NOW, TestDb, databases, postgres, sqlite};
use std::fs;

struct Copy {
    fund: Fund,
    folder: tempfile::TempDir,
}

impl Copy {
    async fn of(db: &TestDb) -> Self {
        let fund = Fund::new(db).await;
        let pc = fund.device("PC-1").await;
        fund.connect(&pc).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let documents = folder.path().join("sealed");
        fs::create_dir_all(documents.join("ab")).unwrap();
        fs::write(documents.join("ab/one"), b"sealed bytes").unwrap();
        fs::write(documents.join("ab/two#1"), b"half writt").unwrap();
        let copy = Self { fund, folder };
        let keys = &copy.fund.app.keys;
        backup(db, keys, &documents, &copy.out(), NOW)
            .await
            .unwrap();
        copy
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("copy")
    }

    fn restored(&self) -> PathBuf {
        self.folder.path().join("restored")
    }
}

async fn contents(db: &Db) -> Vec<(String, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let mut tx = db.begin_snapshot().await.unwrap();
    let mut all = Vec::new();
    for table in db::tables() {
        let path = folder.path().join(table);
        rows::dump(&mut tx, table, &path).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        all.push((table.to_owned(), text.lines().map(str::to_owned).collect()));
    }
    all
}

#[tokio::test]
async fn a_copy_moves_from_either_database_to_either() {
    for from in databases().await {
        let copy = Copy::of(&from).await;
        for to in [sqlite().await, postgres().await] {
            let restored = copy.restored();
            restore(&to, &restored, &copy.out()).await.unwrap();
            assert_eq!(contents(&to).await, contents(&from).await);
            let keys = &copy.fund.app.keys;
            assert!(audit::verify(&to, keys).await.unwrap() > 5);
            assert_eq!(fs::read(restored.join("ab/one")).unwrap(), b"sealed bytes");
            assert!(!restored.join("ab/two#1").exists());
            fs::remove_dir_all(&restored).unwrap();
        }
    }
}

#[tokio::test]
async fn a_database_in_use_is_left_alone() {
    for db in databases().await {
        let copy = Copy::of(&db).await;
        let before = contents(&db).await;
        let error = restore(&db, &copy.restored(), &copy.out())
            .await
            .unwrap_err();
        assert!(matches!(error, BackupError::DatabaseInUse(_)), "{error}");
        assert_eq!(contents(&db).await, before);
        assert!(!copy.restored().exists());
    }
}

#[tokio::test]
async fn a_damaged_copy_restores_nothing() {
    let from = sqlite().await;
    for damage in ["tables/devices.jsonl", "documents/ab/one"] {
        let copy = Copy::of(&sqlite().await).await;
        let path = copy.out().join(damage);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
        let to = sqlite().await;
        let error = restore(&to, &copy.restored(), &copy.out())
            .await
            .unwrap_err();
        assert!(matches!(&error, BackupError::Damaged(which) if *which == path));
        assert_eq!(contents(&to).await, contents(&from).await);
        assert!(!copy.restored().exists());
    }
}

#[tokio::test]
async fn a_path_that_leads_out_of_the_copy_is_refused() {
    let copy = Copy::of(&sqlite().await).await;
    let manifest = copy.out().join(MANIFEST);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("ab/one", "../../ab/one")).unwrap();
    let to = sqlite().await;
    let error = restore(&to, &copy.restored(), &copy.out())
        .await
        .unwrap_err();
    assert!(matches!(error, BackupError::NotACopy { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_with_something_in_it_is_not_written_to() {
    let db = sqlite().await;
    let copy = Copy::of(&db).await;
    let (keys, documents) = (&copy.fund.app.keys, copy.folder.path().join("sealed"));
    let error = backup(&db, keys, &documents, &copy.out(), NOW).await;
    assert!(matches!(error, Err(BackupError::NotEmpty(_))));
}

#[test]
fn every_table_of_the_schema_is_copied() {
    let tables: Vec<_> = db::tables().collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let made: usize = fs::read_dir(folder)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .map(|schema| schema.matches("CREATE TABLE").count())
        .sum();
    assert_eq!(tables.len(), made);
    assert!(tables.contains(&"audit_log") && tables.contains(&"tunnel_sessions"));
}
