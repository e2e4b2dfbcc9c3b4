//! The machine: memory, processors and the kind of its disk, as Linux shows them.

use std::path::Path;

use super::Stated;
use super::advice::{Disk, Machine};
use crate::error::SidecarError;

/// Returns the machine, as the user states it or as it is found.
///
/// # Errors
/// [`SidecarError::Input`] for what is neither stated nor found.
pub(super) fn describe(stated: Stated, is_here: bool, data: Option<&str>) -> Result<Machine, SidecarError> {
    let missing = |flag: &str| {
        let reason = if is_here { "it cannot be found" } else { "PostgreSQL runs on another machine" };
        SidecarError::Input { detail: format!("state {flag}: {reason}") }
    };
    let found = |value: Option<u64>| value.filter(|_| is_here);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = stated.memory.or_else(|| {
        found(memory(
            &read("/proc/meminfo"),
            &[&read("/sys/fs/cgroup/memory.max"), &read("/sys/fs/cgroup/memory/memory.limit_in_bytes")],
        ))
    });
    let processors = stated.processors.or_else(|| {
        let count = std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok());
        count.filter(|_| is_here)
    });
    let disk = stated.disk.or_else(|| data.filter(|_| is_here).and_then(|data| disk(Path::new(data))));
    Ok(Machine {
        memory: memory.ok_or_else(|| missing("--memory"))?,
        processors: processors.ok_or_else(|| missing("--processors"))?,
        disk: disk.ok_or_else(|| missing("--disk"))?,
        connections: stated.connections,
    })
}

/// Returns the memory of `/proc/meminfo`, or that of a control group, if it is less.
fn memory(meminfo: &str, limits: &[&str]) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    let limits = limits.iter().filter_map(|text| text.trim().parse::<u64>().ok()).filter(|limit| *limit > 0);
    Some(limits.fold(total, u64::min))
}

/// Returns the kind of the disk of a folder; of a partition, that of its disk.
fn disk(folder: &Path) -> Option<Disk> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(folder).ok()?.dev();
    let name = format!("/sys/dev/block/{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let place = std::fs::canonicalize(name).ok()?;
    let flag = [place.clone(), place.parent()?.to_owned()]
        .into_iter()
        .find_map(|place| std::fs::read_to_string(place.join("queue/rotational")).ok())?;
    Some(if flag.trim() == "0" { Disk::Ssd } else { Disk::Hdd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_limits_the_memory() {
        let meminfo = "MemTotal:        2000 kB\nMemFree: 5 kB\n";
        assert_eq!(memory(meminfo, &["max\n", ""]), Some(2_048_000));
        assert_eq!(memory(meminfo, &["1024000\n"]), Some(1_024_000));
        assert_eq!(memory("", &["1024"]), None);
    }

    #[test]
    fn another_machine_has_to_be_stated() {
        let stated = Stated { memory: Some(1 << 30), processors: Some(2), ..Stated::default() };
        let error = describe(stated, false, Some("/")).unwrap_err().to_string();
        assert_eq!(error, "state --disk: PostgreSQL runs on another machine");
        let machine = describe(Stated { disk: Some(Disk::Hdd), ..stated }, false, None).unwrap();
        assert_eq!((machine.memory, machine.processors, machine.disk), (1 << 30, 2, Disk::Hdd));
    }
}
