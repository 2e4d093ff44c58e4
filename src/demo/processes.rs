//! Looking at other processes, as far as the system lets us.
//!
//! Only a simulated crash needs it: without /proc the backends of a killed postmaster are
//! not found, and end by themselves a moment later when they notice.

use nix::sys::signal::kill;
use nix::unistd::Pid;

/// The direct children of a process.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| status(*pid).is_some_and(|(_, its_parent)| its_parent == parent.as_raw()))
        .collect()
}

/// Has the process ended? A zombie has: it holds nothing any more.
pub(super) fn has_ended(pid: Pid) -> bool {
    match status(pid) {
        Some((state, _)) => state == "Z" || state == "X",
        None => kill(pid, None).is_err(),
    }
}

/// State and parent, from `pid (name) state parent …`; the name may hold anything.
fn status(pid: Pid) -> Option<(String, i32)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_its_end_noticed() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        if std::path::Path::new("/proc/self/stat").exists() {
            assert!(children(Pid::this()).contains(&pid));
        }
        assert!(!has_ended(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(pid));
    }
}
