//! The runtime that a daemon's work runs on, and how long the end of it may take.

use std::io;
use std::time::Duration;

/// How long work outside the runtime's tasks, such as asking for a name's address, may hold up
/// the end.
pub const LAST_WORK_LIMIT: Duration = Duration::from_secs(1);

/// Does a program's work to its end. What it left to threads of their own is waited for at most
/// [`LAST_WORK_LIMIT`]: a name server or a scanner that does not answer keeps its thread for up
/// to minutes, and whoever ends the program would kill it first.
///
/// # Errors
/// If the system gives no threads.
pub fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORK_LIMIT);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_waits_for_ever_holds_up_no_end() {
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let (silent, answer) = mpsc::channel::<()>();
            let said = run(async move {
                let (begun, begins) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    let _ = begun.send(());
                    answer.recv()
                });
                begins.await
            });
            let _ = done.send(said.is_ok_and(|begun| begun.is_ok()));
            drop(silent);
        });
        let ended = ended.recv_timeout(10 * LAST_WORK_LIMIT);
        assert_eq!(ended, Ok(true), "the end waits for the thread");
    }
}
