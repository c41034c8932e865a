//! What processes have used: CPU time and memory, from /proc.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Ticks of /proc/PID/stat in a second (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds that the processes and their children that still live have used.
pub(super) fn cpu_seconds(processes: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for pid in with_children(processes) {
        let fields = match stat(pid) {
            Some(fields) => fields,
            // A child that has ended meanwhile is counted with the ended ones.
            None if !processes.contains(&pid) => continue,
            None => bail!("process {pid} is gone"),
        };
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        // Fields 14 and 15 of proc(5), counted from behind the name: utime and stime.
        let (user, system) = ticks(11).zip(ticks(12)).context("utime and stime")?;
        sum += (user + system) / TICKS_PER_S;
    }
    Ok(sum)
}

/// CPU seconds that a process's children have used that have ended.
pub(super) fn ended_children_cpu_seconds(process: u32) -> Result<f64> {
    let fields = stat(process).context("no such process")?;
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    // Fields 16 and 17 of proc(5).
    let (user, system) = ticks(13).zip(ticks(14)).context("cutime and cstime")?;
    Ok((user + system) / TICKS_PER_S)
}

/// Resident memory of the processes and their children, in bytes.
pub(super) fn resident_bytes(processes: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for pid in with_children(processes) {
        let status = match std::fs::read_to_string(format!("/proc/{pid}/status")) {
            Ok(status) => status,
            // A child that has ended meanwhile has no memory any more.
            Err(_) if !processes.contains(&pid) => continue,
            Err(error) => return Err(error.into()),
        };
        sum += 1024.0 * kilobytes(&status, "VmRSS:")?;
    }
    Ok(sum)
}

/// Begins anew to look for the most memory that a process had, where the kernel lets us (see
/// proc(5), clear_refs).
pub(super) fn forget_peak(process: u32) {
    // Without it the peak is that of the process's whole life, which is still true.
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// The most resident memory that a process had since [`forget_peak`], in bytes.
pub(super) fn peak_bytes(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    kilobytes(&status, "VmHWM:").map(|kilobytes| 1024.0 * kilobytes)
}

fn kilobytes(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.with_context(|| name.to_owned())?.parse()?)
}

fn with_children(processes: &[u32]) -> HashSet<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let parent = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut family: HashSet<u32> = processes.iter().copied().collect();
    loop {
        let before = family.len();
        let children: Vec<u32> = parents
            .iter()
            .filter(|(_, parent)| family.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        family.extend(children);
        if family.len() == before {
            return family;
        }
    }
}

/// The fields of /proc/PID/stat behind the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let file = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = std::fs::read_to_string(file).ok()?;
    let fields = text.rsplit(')').next()?.split_whitespace();
    Some(fields.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_time_and_memory() {
        let this = std::process::id();
        assert!(resident_bytes(&[this]).unwrap() > 100_000.0);
        forget_peak(this);
        assert!(peak_bytes(this).unwrap() > 100_000.0);
        assert!(peak_bytes(u32::MAX).is_err());
        assert!(cpu_seconds(&[this]).unwrap() < 3600.0);
        assert!(cpu_seconds(&[u32::MAX]).is_err());
    }
}
