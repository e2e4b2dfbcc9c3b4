//! The machine of a measurement.

use std::process::Command;

use arx_stack::process::run;

/// Describes the machine and the versions as (name, value) pairs.
#[must_use]
pub fn description(server_version: &str) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let output = |command: &mut Command| run(command).map_or_else(|_| unknown(), |text| text.trim().to_owned());
    let memory = field(&file("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next().and_then(|number| number.parse::<u64>().ok()))
        .map_or_else(unknown, |kibibytes| format!("{:.1} GiB", kibibytes as f64 / 1_048_576.0));
    let cores = std::thread::available_parallelism().map_or_else(|_| unknown(), |count| count.to_string());
    vec![
        ("date", output(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
        ("processor", field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(unknown)),
        ("cores", cores),
        ("memory", memory),
        ("kernel", output(Command::new("uname").arg("-sr"))),
        ("PostgreSQL", server_version.to_owned()),
        ("Redis", output(Command::new("redis-server").arg("--version"))),
        ("ARX", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}
