//! Boot tests: virtual machines, the infrastructure they need, and what must
//! hold, described by a scenario file and run without help.
//!
//! Owns: scenarios ([`scenario`]), machines ([`machine`], [`qemu`], [`disk`]),
//! infrastructure ([`infra`]), the steps (the engine) and results ([`report`]).
//! Refuses: test code in images (the inspection channel travels as a
//! credential), secrets in arguments or results, and a pass without the
//! machine's own report. Everything that a run starts ends with it.

pub mod accel;
pub mod console;
pub mod credential;
pub mod disk;
mod engine;
pub mod erofs;
pub mod esp;
pub mod http;
pub mod infra;
pub mod inspect;
pub mod letters;
pub mod loopback;
pub mod machine;
pub mod metadata_server;
pub mod port;
pub mod prepare;
pub mod qemu;
pub mod report;
pub mod scenario;
pub mod search;
pub mod secret;
pub mod sql;
pub mod template;

use camino::{Utf8Path, Utf8PathBuf};
use sf_command::{Cmd, Tool};

use accel::Choice;
use engine::Engine;
use prepare::Ready;
use qemu::Accel;
use report::Report;
use scenario::{Invalid, Scenario};

/// What to run and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The scenario file.
    pub scenario: Utf8PathBuf,
    /// Folder with `<profile>/<image-version>/sf-<profile>_<version>.raw`.
    pub images: Utf8PathBuf,
    /// Folder for what is made once: the database's seed, the accelerator.
    pub cache: Utf8PathBuf,
    /// Folder below which the run's own folder is made; needs room for a disk
    /// per machine, 1 to 2 GiB each.
    pub work: Utf8PathBuf,
    /// `kvm` or `tcg`, from [`accel::VARIABLE`]; `None` to find out.
    pub accel: Option<String>,
}

/// Why a scenario was not run. A scenario that ran and failed is a [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the scenario {path}")]
    Unreadable {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The scenario is wrong.
    #[error("{0}")]
    Invalid(Invalid),
    /// Something that the run needs is missing.
    #[error("the boot test cannot run here; missing:\n{}", list(.0))]
    Missing(Vec<String>),
    /// The accelerator cannot be chosen.
    #[error("{0}")]
    Accelerator(String),
    /// The run's folder cannot be made.
    #[error("cannot use the folder {path}")]
    Folder {
        /// The folder.
        path: Utf8PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The infrastructure cannot be prepared.
    #[error("cannot prepare the infrastructure")]
    Infrastructure(#[from] infra::Error),
    /// A machine cannot be prepared.
    #[error("cannot prepare the machine {name}")]
    Machine {
        /// Its name.
        name: String,
        /// The reason.
        source: machine::Error,
    },
}

impl Error {
    /// 2 for a bad scenario, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } | Self::Invalid(_) => 2,
            _ => 1,
        }
    }
}

/// An error with its causes, one line each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(cause.to_string());
        source = cause.source();
    }
    lines.join("\n")
}

fn list(items: &[String]) -> String {
    items
        .iter()
        .map(|item| format!("  - {item}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads and checks a scenario file.
pub fn read(path: &Utf8Path) -> Result<Scenario, Error> {
    let text = fs_err::read_to_string(path).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Scenario::parse(path.as_str(), &text).map_err(Error::Invalid)
}

/// Runs a scenario. `narrate` gets each line of the text form as it comes
/// about: [`Report::opening`], every probe, [`Report::closing`].
pub fn run(options: &Options, narrate: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let scenario = read(&options.scenario)?;
    let ready = prepare::prepare(&scenario, &options.images).map_err(Error::Missing)?;
    let folder = |source| Error::Folder {
        path: options.work.clone(),
        source,
    };
    fs_err::create_dir_all(&options.work).map_err(folder)?;
    let work = tempfile::Builder::new()
        .prefix("sf-boot-test-")
        .tempdir_in(&options.work)
        .map_err(folder)?;
    let path = Utf8PathBuf::from_path_buf(work.path().to_owned())
        .map_err(|path| folder(std::io::Error::other(path.display().to_string())))?;

    let choice = acceleration(options, &ready, &path)?;
    let engine = Engine::new(&scenario, &ready, choice, &path, &options.cache, narrate)?;
    let mut report = engine.run();
    if !report.is_good() {
        report.folder = Some(path.into_string());
        let _ = work.keep();
    }
    narrate(&report.closing());
    Ok(report)
}

fn acceleration(options: &Options, ready: &Ready, work: &Utf8Path) -> Result<Choice, Error> {
    let wanted = options.accel.as_deref();
    let Some(image) = ready.images.first() else {
        let reason = "no machine in this scenario".to_owned();
        return Ok(Choice {
            accel: Accel::Kvm,
            reason,
            one_processor: false,
        });
    };
    let told = Cmd::new(Tool::QemuSystemX86).arg("--version").run();
    let told = told
        .map_err(|failure| Error::Accelerator(failure.to_string()))?
        .text();
    accel::choose(
        wanted,
        image,
        &ready.firmware,
        &options.cache,
        &work.join("probe"),
    )
    .map(|choice| choice.with_version(&told))
    .map_err(Error::Accelerator)
}
