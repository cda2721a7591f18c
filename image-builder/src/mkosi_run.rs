//! Runs mkosi on a rendered folder.
//!
//! Owns: the command line, the containment of mkosi's processes and mounts, the
//! log file, the phases read from mkosi's own lines, and the line that explains
//! a failure. Refuses: interpreting what mkosi wrote as anything but narration;
//! results are collected by name elsewhere.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_command::{Cmd, Failure, Program, Tool};

use crate::explain::{Explanation, disk_is_full, explain};
use crate::mkosi::Mkosi;
use crate::progress::Phase;

/// mkosi failed.
#[derive(Debug, thiserror::Error)]
#[error("mkosi failed{}{}\nthe whole log is {}", during(step.as_deref()), said(explanation.as_deref()), log.display())]
pub struct MkosiRunError {
    /// mkosi's step that was running, `Installing Debian`.
    pub step: Option<String>,
    /// The line that explains, when there is one.
    pub explanation: Option<Box<Explanation>>,
    /// The file that holds everything mkosi wrote.
    pub log: PathBuf,
    /// How the command ended.
    #[source]
    pub source: Box<Failure>,
}

fn during(step: Option<&str>) -> String {
    step.map(|step| format!(" during \"{step}\""))
        .unwrap_or_default()
}

fn said(explanation: Option<&Explanation>) -> String {
    explanation.map(|e| format!(": {e}")).unwrap_or_default()
}

impl MkosiRunError {
    /// What to do, when that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        self.explanation
            .as_ref()
            .and_then(|explanation| explanation.hint)
    }
}

/// One run of `mkosi build`.
#[derive(Debug, Clone)]
pub struct MkosiRun<'a> {
    /// Which mkosi.
    pub mkosi: &'a Mkosi,
    /// The rendered folder, with `mkosi.conf`.
    pub folder: PathBuf,
    /// `OutputDirectory=`: an empty folder on the file system of the result.
    pub output: PathBuf,
    /// `WorkspaceDirectory=`: outside the rendered folder.
    pub workspace: PathBuf,
    /// `PackageCacheDirectory=`: shared by all builds.
    pub packages: PathBuf,
    /// `CacheDirectory=` of the profile's base tree; with it the build is
    /// incremental.
    pub base: Option<PathBuf>,
    /// `ToolsTree=`; `None` only for building the tools tree itself.
    pub tools: Option<PathBuf>,
    /// `SandboxTrees=`: the apt sources.
    pub sandbox: PathBuf,
    /// Further arguments, before the verb.
    pub extra: Vec<String>,
}

impl MkosiRun<'_> {
    /// The command. What it names on the command line is what depends on this
    /// machine alone; everything that shapes the image is in the folder.
    pub fn cmd(&self) -> Cmd {
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        let mut pair = |name: &str, value: &Path| {
            args.push(name.into());
            args.push(value.into());
        };
        pair("--directory", &self.folder);
        pair("--output-directory", &self.output);
        pair("--workspace-directory", &self.workspace);
        pair("--package-cache-directory", &self.packages);
        pair("--sandbox-tree", &self.sandbox);
        if let Some(tools) = &self.tools {
            pair("--tools-tree", tools);
        }
        if let Some(base) = &self.base {
            pair("--cache-directory", base);
            args.push("--incremental=yes".into());
        }
        args.extend(self.extra.iter().map(Into::into));
        args.push("build".into());
        contained(self.mkosi.cmd().args(args))
    }

    /// Runs it. Everything it writes is appended to `log`; its steps are shown
    /// through `phase` and become its parts.
    pub fn run(&self, log: &Path, phase: &Phase<'_>) -> Result<(), MkosiRunError> {
        run(&self.cmd(), log, phase, TO_END_BY_ITSELF)
    }
}

/// What mkosi has to end by itself once a program of it has no space left.
/// mkfs.erofs (1.8.6, Debian 13's) does not: it says so, and then its threads
/// wait for each other for ever. How much is free says less: file systems keep
/// blocks for themselves, ext4 16 MiB.
const TO_END_BY_ITSELF: Duration = Duration::from_secs(15);

/// Runs a command that speaks like mkosi.
fn run(
    cmd: &Cmd,
    log: &Path,
    phase: &Phase<'_>,
    to_end_by_itself: Duration,
) -> Result<(), MkosiRunError> {
    let full = Cell::new(None::<Instant>);
    let mut current: Option<(String, Instant)> = None;
    let mut text = String::new();
    let finish = |current: &mut Option<(String, Instant)>| {
        if let Some((name, start)) = current.take()
            && start.elapsed() >= Duration::from_millis(100)
        {
            phase.step(&name, start.elapsed());
        }
    };
    let on_line = |line: &str| {
        text.push_str(line);
        text.push('\n');
        if full.get().is_none() && disk_is_full(line) {
            full.set(Some(Instant::now()));
        }
        if let Some(step) = step_of(line) {
            finish(&mut current);
            phase.detail(&short(step));
            current = Some((short(step), Instant::now()));
        }
    };
    let stop = || {
        let since = full.get()?.elapsed();
        (since > to_end_by_itself)
            .then(|| "a disk is full, and it did not end by itself".to_owned())
    };
    cmd.run_logged_until(log, on_line, stop)
        .map(|_| finish(&mut current))
        .map_err(|source| MkosiRunError {
            step: current.map(|(name, _)| name),
            explanation: explain(&text).map(Box::new),
            log: log.to_owned(),
            source: Box::new(source),
        })
}

/// The step that a line of mkosi's announces. Steps in brackets are clean-up
/// after a failure; quoted ones report the failure itself.
fn step_of(line: &str) -> Option<&str> {
    let step = line.strip_prefix('‣')?.trim().trim_end_matches('…');
    let narrates = step.starts_with(|c: char| c.is_ascii_uppercase());
    // Lines about a setting start with its file; a phase is a capital verb.
    (narrates && !step.contains(": ")).then_some(step)
}

/// A step with paths reduced to file names: those of mkosi's workspace say
/// nothing, and differ from run to run.
fn short(step: &str) -> String {
    let word = |word: &str| match word.rsplit_once('/') {
        Some((folder, name)) if folder.starts_with('/') && !name.is_empty() => name.to_owned(),
        _ => word.to_owned(),
    };
    step.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// `cmd` in its own process and mount namespaces: when its first process ends or
/// is killed, the kernel ends all of mkosi's children and undoes its mounts.
fn contained(cmd: Cmd) -> Cmd {
    let inner: Vec<std::ffi::OsString> = match cmd.program() {
        Program::Path(path) => vec![path.into()],
        // Resolved by `unshare`'s execvp in the PATH that `Mkosi::cmd` sets.
        Program::Tool(tool) => vec![tool.program().into()],
    };
    let args = cmd.get_args().to_vec();
    cmd.replace(Tool::Unshare)
        .args(["--fork", "--pid", "--mount-proc", "--kill-child=KILL", "--"])
        .args(inner)
        .args(args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use fs_err as fs;

    fn shell(script: &str) -> Cmd {
        Cmd::path("/bin/sh").args(["-c", script])
    }

    #[test]
    fn the_command_names_only_what_depends_on_the_machine() {
        let mkosi = Mkosi::unpacked("25.3-7", Path::new("/c/mkosi"));
        let run = MkosiRun {
            mkosi: &mkosi,
            folder: "/out/rendered".into(),
            output: "/out/partial".into(),
            workspace: "/c/work".into(),
            packages: "/c/packages".into(),
            base: Some("/c/base/hypervisor".into()),
            tools: Some("/c/tools/k/tools".into()),
            sandbox: "/c/sandbox/k".into(),
            extra: vec!["--image-version=1".into()],
        };
        let shown = run.cmd().to_string();
        let (_, command) = shown.split_once("unshare").expect("contained");
        insta::assert_snapshot!(command.replace(" --", "\n--").trim(), @"
        --fork
        --pid
        --mount-proc
        --kill-child=KILL
        -- python3 -m mkosi
        --directory /out/rendered
        --output-directory /out/partial
        --workspace-directory /c/work
        --package-cache-directory /c/packages
        --sandbox-tree /c/sandbox/k
        --tools-tree /c/tools/k/tools
        --cache-directory /c/base/hypervisor
        --incremental=yes
        --image-version=1 build
        ");
    }

    #[test]
    fn reads_steps_from_mkosis_lines() {
        for (line, want) in [
            ("‣  Installing Debian", Some("Installing Debian")),
            (
                "‣ Copying in sandbox trees…",
                Some("Copying in sandbox trees"),
            ),
            ("‣ (Cleaning up)", None),
            ("‣ \"apt-get\" returned non-zero exit code 100.", None),
            ("‣ /x/mkosi.conf: Unknown setting Y", None),
            ("Reading package lists...", None),
        ] {
            assert_eq!(step_of(line), want, "{line}");
        }
    }

    #[test]
    fn steps_carry_no_paths() {
        let step = "Compressing /var/tmp/mkosi-workspace-x/initrd.cpio with zstd";
        assert_eq!(short(step), "Compressing initrd.cpio with zstd");
        assert_eq!(
            short("Normalizing modification times of /."),
            "Normalizing modification times of /."
        );
        assert_eq!(short("Installing Debian"), "Installing Debian");
    }

    #[test]
    fn a_full_disk_ends_what_would_wait_for_ever() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = dir.path().join("build.log");
        let said = "<E> erofs_io: failed to write: No space left on device";
        let script = format!("echo '‣  Generating disk image'; echo '{said}'; sleep 66");
        let progress = Progress::plain(std::io::sink());
        let phase = progress.phase("image");
        let little = Duration::from_millis(200);
        let error = run(&shell(&script), &log, &phase, little).expect_err("stopped");
        let shown = error.to_string();
        assert!(shown.contains(said), "{shown}");
        assert!(
            matches!(*error.source, Failure::Stopped { .. }),
            "{error:?}"
        );
        let explanation = error.explanation.as_ref().expect("explained");
        assert_eq!(explanation.cause, crate::explain::Cause::DiskFull);
        assert!(error.hint().expect("hint").contains("free some space"));

        // What ends by itself says how it ended.
        let script = format!("echo '{said}'; sleep 0.3; exit 3");
        let minute = Duration::from_mins(1);
        let error = run(&shell(&script), &log, &phase, minute).expect_err("failed");
        assert_eq!(error.source.code(), Some(3), "{error:?}");
        phase.done(false);
    }

    #[test]
    fn a_failure_shows_the_line_that_explains_the_step_and_the_log() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = dir.path().join("build.log");
        // A step counts from when its line was read, however late that is.
        let script = format!(
            "echo '‣ Building default image'; until grep -q '^‣ Building' {}; do sleep 0.01; done; \
             sleep 0.3; echo '‣  Installing Debian'; echo 'E: Unable to locate package nope'; \
             echo '‣ \"apt-get install\" returned non-zero exit code 100.'; exit 1",
            log.display()
        );
        let progress = Progress::plain(std::io::sink());
        let phase = progress.phase("image");
        let error = run(&shell(&script), &log, &phase, TO_END_BY_ITSELF).expect_err("fails");
        let shown = error.to_string();
        let want = "mkosi failed during \"Installing Debian\": E: Unable to locate package nope\n";
        assert!(shown.starts_with(want), "{shown}");
        assert!(shown.ends_with(&log.display().to_string()), "{shown}");
        assert!(error.hint().expect("hint").contains("profile"));
        assert!(
            fs::read_to_string(&log)
                .expect("log")
                .contains("returned non-zero exit code")
        );
        phase.done(false);
        assert_eq!(
            progress.timings()[0].steps[0].phase,
            "Building default image"
        );
    }
}
