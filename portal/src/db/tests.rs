//! What a request that is cut short leaves behind in the pool.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::testing::postgres;

/// Polls a future this often, each time after it asked for it, and drops it.
async fn cut_short<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 || future.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        Poll::Pending
    })
    .await;
}

async fn number(db: &Db, question: &'static str) -> i64 {
    let number = sqlx::query_scalar(question).fetch_one(db.pool()).await;
    number.expect("answers")
}

#[tokio::test]
async fn a_begin_that_is_cut_short_leaves_no_connection_inside_a_transaction() {
    let db = postgres().await;
    let other = Db::open(db.pool().connect_options().database_url.as_str())
        .await
        .unwrap();
    for round in 0..40 {
        let several = (0..8).map(|more| {
            let db = db.db.clone();
            async move {
                cut_short((round + more) % 8, db.begin()).await;
                cut_short((round + more) % 8, db.begin_snapshot()).await;
            }
        });
        join_all(several).await;
    }

    let connections = i64::from(POOL_LIMIT);
    let held = join_all((0..connections).map(|_| db.pool().acquire())).await;
    for (at, connection) in held.into_iter().enumerate() {
        sqlx::query("INSERT INTO counters (name, value) VALUES ($1, 1)")
            .bind(format!("kept/{at}"))
            .execute(&mut *connection.unwrap())
            .await
            .expect("writes");
    }
    let kept = "SELECT COUNT(*) FROM counters WHERE name LIKE 'kept/%'";
    assert_eq!(number(&other, kept).await, connections);
    let inside = "SELECT COUNT(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    // A rollback may be on its way.
    for _ in 0..50 {
        if number(&other, inside).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("connections stay inside a transaction");
}
