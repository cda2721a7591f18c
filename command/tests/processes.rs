//! The runner against real small programs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sf_command::{Cmd, Failure, Sink, Tool};

fn sh(script: &str) -> Cmd {
    Cmd::path("/bin/sh").args(["-c", script])
}

/// Whether a process exists and is no zombie.
fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The content of `path` once a whole line is in it.
fn line_of(path: &Path) -> String {
    let mut text = String::new();
    wait_until("a line", || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text.trim().to_owned()
}

#[test]
fn captures_both_streams_and_the_exit_code() {
    let output = sh("echo out; echo err >&2").run().expect("run");
    assert_eq!(
        (output.text().as_str(), output.stderr.as_slice()),
        ("out", b"err\n".as_slice())
    );

    let failure = sh("echo why >&2; exit 3").run().expect_err("exit 3");
    assert_eq!((failure.code(), failure.stderr()), (Some(3), "why"));
    assert!(
        failure.to_string().ends_with("ended with exit code 3: why"),
        "{failure}"
    );
}

#[test]
fn passes_stdin_environment_and_folder() {
    let dir = tempfile::tempdir().expect("tempdir");
    let output = sh("cat; echo $A; pwd; echo ${HOME-unset}")
        .stdin("in\n")
        .env("A", "b c")
        .env_remove("HOME")
        .cwd(dir.path())
        .run()
        .expect("run");
    let want = format!("in\nb c\n{}\nunset", dir.path().display());
    assert_eq!(output.text(), want);
    let bare = Cmd::path("/usr/bin/env")
        .env_clear()
        .env("ONLY", "1")
        .run()
        .expect("env");
    assert_eq!(bare.text(), "ONLY=1");
}

#[test]
fn stdin_is_empty_by_default_and_may_be_large_or_unread() {
    assert_eq!(Cmd::path("/bin/cat").run().expect("cat").text(), "");
    let big = vec![b'x'; 3 << 20];
    let output = Cmd::path("/bin/cat").stdin(big.clone()).run().expect("cat");
    assert_eq!(output.stdout.len(), big.len());
    Cmd::path("/bin/true")
        .stdin(big)
        .run()
        .expect("a child may ignore its input");
}

#[test]
fn names_a_missing_program_and_a_missing_folder() {
    let dir = tempfile::tempdir().expect("tempdir");
    let absent = dir.path().join("absent");
    let failure = Cmd::path(&absent).run().expect_err("missing");
    assert_eq!(
        failure.to_string(),
        format!("{} is not on this machine", absent.display())
    );
    let failure = sh("true").cwd(&absent).run().expect_err("folder");
    assert!(
        matches!(failure, Failure::CouldNotStart { .. }),
        "{failure:?}"
    );
    if let Some(absent) = Tool::ALL.iter().find(|tool| tool.resolve().is_err()) {
        let failure = Cmd::new(*absent).run().expect_err("missing").to_string();
        assert!(
            failure.ends_with(&format!("package {}", absent.package())),
            "{failure}"
        );
    }
}

#[test]
fn a_signal_and_a_timeout_are_their_own_failures() {
    let failure = sh("kill -9 $$").run().expect_err("signal");
    assert!(
        matches!(failure, Failure::Signal { signal: 9, .. }),
        "{failure:?}"
    );

    let start = Instant::now();
    let limit = Duration::from_millis(200);
    let failure = sh("echo begun >&2; sleep 60")
        .timeout(limit)
        .run()
        .expect_err("late");
    assert!(matches!(failure, Failure::Timeout { .. }), "{failure:?}");
    assert_eq!(failure.stderr(), "begun");
    let failure = sh("echo begun; sleep 60")
        .timeout(limit)
        .run_streaming(|_| ());
    assert_eq!(failure.expect_err("late").stderr(), "begun");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("pid");
    let script = format!(
        "trap '' TERM; echo $$ >{}; while :; do sleep 1; done",
        file.display()
    );
    let mut child = sh(&script).spawn().expect("spawn");
    line_of(&file);
    let start = Instant::now();
    let status = child
        .terminate(Duration::from_millis(200))
        .expect("terminate");
    assert!(!status.success());
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn dropping_a_child_ends_its_grandchildren() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("pid");
    let script = format!("sleep 61 & echo $! >{}; wait", file.display());
    let child = sh(&script).spawn().expect("spawn");
    let grandchild = line_of(&file);
    assert!(alive(&grandchild));
    drop(child);
    wait_until("the grandchild ends", || !alive(&grandchild));
}

#[test]
fn what_a_finished_command_left_behind_is_killed() {
    let output = sh("sleep 62 & echo $!").run().expect("run");
    wait_until("the straggler ends", || !alive(&output.text()));
}

#[test]
fn a_pipe_held_open_from_another_session_does_not_hang_the_run() {
    let start = Instant::now();
    let output = sh("setsid sleep 40 & echo done").run().expect("run");
    assert_eq!(output.text(), "done");
    assert!(start.elapsed() < Duration::from_secs(30));
    let start = Instant::now();
    let mut seen = Vec::new();
    sh("setsid sleep 40 & echo done")
        .run_streaming(|l| seen.push(l.to_owned()))
        .expect("run");
    assert_eq!(seen, ["done"]);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let spawn = || Cmd::path("/bin/sleep").arg("63").spawn().expect("spawn");
    let mut child = std::thread::spawn(spawn).join().expect("join");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().expect("try_wait"), None);
    child.kill().expect("kill");
    assert!(child.try_wait().expect("try_wait").is_some());
}

/// Not a test: what `children_die_when_this_process_is_killed` runs and kills.
#[test]
#[ignore = "the victim of another test"]
fn victim() {
    let Ok(file) = std::env::var("VICTIM_PID_FILE") else {
        return;
    };
    let child = Cmd::path("/bin/sleep").arg("64").spawn().expect("spawn");
    fs::write(file, format!("{}\n", child.pid())).expect("write");
    std::thread::sleep(Duration::from_mins(1));
}

#[test]
fn children_die_when_this_process_is_killed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("pid");
    let mut victim = Cmd::path(std::env::current_exe().expect("exe"))
        .args(["--ignored", "--exact", "victim"])
        .env("VICTIM_PID_FILE", &file)
        .spawn()
        .expect("spawn");
    let grandchild = line_of(&file);
    assert!(alive(&grandchild));
    // Only the victim itself: its child leads another group and gets nothing
    // but its parent-death signal.
    victim.kill().expect("kill");
    wait_until("the grandchild ends", || !alive(&grandchild));
}

#[test]
fn streams_lines_in_order_to_the_callback_and_the_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("log");
    let cmd = sh("echo 1; echo 2 >&2; echo key=hunter2; printf 'a 10%%\\ra 100%%\\n'; printf end")
        .secret("hunter2");
    let mut seen = Vec::new();
    cmd.run_logged(&log, |line| seen.push(line.to_owned()))
        .expect("run");
    assert_eq!(seen, ["1", "2", "key=***", "a 100%", "end"]);
    let text = fs::read_to_string(&log).expect("log");
    assert!(text.starts_with("$ /bin/sh -c "), "{text}");
    assert!(text.ends_with("\n1\n2\nkey=***\na 100%\nend\n"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_failure_masks_secrets() {
    let failure = sh("echo bad password hunter2 >&2; exit 1")
        .env("PW", "hunter2")
        .secret("hunter2")
        .run()
        .expect_err("exit 1");
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(failure.stderr(), "bad password ***");
}

#[test]
fn an_unwritable_log_ends_the_command() {
    let mut lines = 0;
    let failure = sh("while :; do echo x; done").run_logged(Path::new("/dev/full"), |_| lines += 1);
    assert!(matches!(failure, Err(Failure::Log { .. })), "{failure:?}");
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("absent/log");
    let failure = sh("true").run_logged(&log, |_| ()).expect_err("log");
    assert!(failure.to_string().contains("absent/log"), "{failure}");
}

#[test]
fn a_command_that_should_not_go_on_is_ended_with_its_children() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("log");
    let mut child = String::new();
    let begun = Instant::now();
    let reason = || (begun.elapsed() > Duration::from_millis(300)).then(|| "enough".to_owned());
    let failure = sh("sleep 65 & echo $!; wait")
        .run_logged_until(&log, |line| line.clone_into(&mut child), reason)
        .expect_err("stopped");
    assert!(
        matches!(&failure, Failure::Stopped { reason, .. } if reason == "enough"),
        "{failure:?}"
    );
    assert_eq!(failure.stderr(), child);
    wait_until("the child ends", || !alive(&child));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_spawned_process_writes_where_it_was_told() {
    use std::io::Read as _;
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("log");
    let mut child = sh("echo a; echo b >&2")
        .log_to(&log)
        .spawn()
        .expect("spawn");
    assert!(child.wait().expect("wait").success());
    assert_eq!(fs::read_to_string(&log).expect("log"), "a\nb\n");

    let mut child = sh("echo piped").stdout(Sink::Pipe).spawn().expect("spawn");
    let mut text = String::new();
    child
        .take_stdout()
        .expect("pipe")
        .read_to_string(&mut text)
        .expect("read");
    assert_eq!(text, "piped\n");
}

#[test]
fn wait_timeout_tells_running_from_ended() {
    // It ends when it is told to: a slow machine must not make it early.
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; exit 7",
        file.display()
    );
    let mut child = sh(&script).spawn().expect("spawn");
    assert!(
        child
            .wait_timeout(Duration::from_millis(20))
            .expect("wait")
            .is_none()
    );
    fs::write(&file, "").expect("write");
    let status = child
        .wait_timeout(Duration::from_mins(1))
        .expect("wait")
        .expect("ended");
    assert_eq!(status.code(), Some(7));
    assert_eq!(child.wait().expect("again").code(), Some(7));
}

#[test]
fn a_wrapped_command_keeps_everything_but_program_and_arguments() {
    let inner = sh("echo $A").env("A", "kept").secret("kept");
    let wrapped = inner
        .clone()
        .replace(Tool::Unshare)
        .args(["--", "/bin/sh", "-c", "echo $A"]);
    assert_eq!(wrapped.to_string(), "A=*** unshare -- /bin/sh -c 'echo $A'");
    if Tool::Unshare.resolve().is_ok() {
        assert_eq!(wrapped.run().expect("unshare").text(), "kept");
    }
}

#[test]
fn a_child_that_writes_without_end_is_cut_off() {
    let failure = sh("echo why >&2; while :; do echo x; done")
        .room(1 << 20)
        .run()
        .expect_err("endless");
    assert!(matches!(failure, Failure::TooMuch { .. }), "{failure:?}");
    assert!(
        failure
            .to_string()
            .ends_with(" was ended: it wrote more than 1 MiB: why"),
        "{failure}"
    );
    // Sixteen without being told: enough for whatever answers.
    let zeros = Cmd::path("/usr/bin/head").args(["-c", "17000000", "/dev/zero"]);
    assert!(matches!(zeros.run(), Err(Failure::TooMuch { .. })));
    let whole = zeros.room(17_000_000).run().expect("exactly as much");
    assert_eq!(whole.stdout.len(), 17_000_000);
}

#[test]
fn of_endless_complaints_both_ends_are_kept() {
    let script = "echo first >&2; head -c 9000000 /dev/zero | tr '\\0' '\\n' >&2; echo last >&2";
    let output = sh(script).run().expect("run");
    assert!(output.stderr.len() < 5 << 19, "{}", output.stderr.len());
    assert!(output.stderr.starts_with(b"first\n\n"));
    assert!(output.stderr.ends_with(b"\nlast\n"));
    let failure = sh(&format!("{script}; exit 1")).run().expect_err("exit 1");
    assert!(failure.stderr().ends_with("last"), "{failure}");
}

#[test]
fn a_line_without_end_is_streamed_in_pieces_and_logged_whole() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = dir.path().join("log");
    let mut longest = 0;
    sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")
        .run_logged(&log, |line| longest = longest.max(line.len()))
        .expect("run");
    assert_eq!(longest, 64 * 1024);
    let text = fs::read_to_string(&log).expect("log");
    let (_, said) = text.split_once('\n').expect("the command");
    assert_eq!(said.matches('x').count(), 3_000_000);
    assert!(said.ends_with("x\nend\n"));
}
