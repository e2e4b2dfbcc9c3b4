//! A real pg_cron runs the schedules.

use std::time::Duration;

use arx_stack::process::wait_until;
use arx_stack::{Stack, StackOptions};

#[test]
fn pg_cron_runs_every_schedule() {
    let settings = [
        "shared_preload_libraries = 'pg_cron'",
        "cron.database_name = 'schedules'",
        "cron.use_background_workers = on",
        "max_worker_processes = 16",
    ];
    let settings = settings.map(str::to_owned).to_vec();
    let stack = Stack::start(&StackOptions { settings, durable: false }).unwrap();
    let database = stack.database("schedules").unwrap();

    let missing = database.query("SELECT * FROM arx.install_schedules()").unwrap_err().to_string();
    assert!(missing.contains("pg_cron is not installed in database \"schedules\""), "{missing}");

    database.query("CREATE EXTENSION pg_cron").unwrap();
    let jobs: usize = database.query("SELECT count(*) FROM arx.schedules").unwrap().parse().unwrap();
    assert!(jobs >= 5);
    // The shortest interval of pg_cron is a minute.
    database.query("UPDATE arx.schedules SET schedule = '* * * * *'").unwrap();
    for _ in 0..2 {
        let installed = database.query("SELECT count(*) FROM arx.install_schedules()").unwrap();
        assert_eq!(installed, jobs.to_string());
        assert_eq!(database.query("SELECT count(*) FROM cron.job").unwrap(), jobs.to_string());
    }
    let ran = wait_until(Duration::from_secs(150), || {
        let failed =
            database.query("SELECT command, return_message FROM cron.job_run_details WHERE status = 'failed'")?;
        assert_eq!(failed, "");
        let done = "SELECT count(DISTINCT jobid) FROM cron.job_run_details WHERE status = 'succeeded'";
        std::thread::sleep(Duration::from_millis(200));
        Ok(database.query(done)? == jobs.to_string())
    });
    let state =
        "SELECT j.jobname, d.status, d.return_message FROM cron.job j LEFT JOIN cron.job_run_details d USING (jobid)";
    assert!(ran.unwrap(), "jobs did not all run: {}", database.query(state).unwrap());

    let history =
        "SELECT count(DISTINCT job), bool_and(duration >= '0') FROM arx.job_history(1000) WHERE outcome = 'succeeded'";
    assert_eq!(database.query(history).unwrap(), format!("{jobs}|t"));

    // Another database of the server reaches it.
    let elsewhere = stack.database("elsewhere").unwrap();
    let missing = elsewhere.query("SELECT * FROM arx.install_schedules()").unwrap_err().to_string();
    assert!(missing.contains("\"elsewhere\" but in \"schedules\""), "{missing}");
    elsewhere.query("CREATE EXTENSION dblink").unwrap();
    assert_eq!(elsewhere.query("SELECT count(*) FROM arx.install_schedules()").unwrap(), jobs.to_string());
    let there = "SELECT count(*) FROM cron.job WHERE database = 'elsewhere'";
    assert_eq!(database.query(there).unwrap(), jobs.to_string());
    elsewhere.query("SELECT count(*) FROM arx.job_history()").unwrap();
    assert_eq!(elsewhere.query("SELECT arx.remove_schedules()").unwrap(), jobs.to_string());
    assert_eq!(database.query(there).unwrap(), "0");

    assert_eq!(database.query("SELECT arx.remove_schedules()").unwrap(), jobs.to_string());
    assert_eq!(database.query("SELECT count(*) FROM cron.job").unwrap(), "0");
}
