//! The life of one virtual machine: made from an image, switched on and off
//! any number of times, asked, and ended with the run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use sf_command::Child;
use zeroize::Zeroizing;

use super::console;
use super::credential::{Channel as By, Credential, FW_CFG};
use super::disk::{self, Flipped};
use super::esp::{self, Reader};
use super::inspect::{self, Answer, Channel};
use super::port;
use super::qemu::{self, Accel, Firmware};
use super::scenario::MachineSpec;

/// How long QEMU may take to end in order.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// Why a machine cannot do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// QEMU cannot be started.
    #[error(transparent)]
    Command(#[from] sf_command::Failure),
    /// The disk cannot be made.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The ESP cannot be written.
    #[error(transparent)]
    Esp(#[from] esp::Error),
    /// A file of the machine cannot be made or read.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is off.
    #[error("the machine is off")]
    Off,
    /// QEMU ended on its own.
    #[error("QEMU ended on its own ({status}){said}")]
    Gone {
        /// Its exit status.
        status: String,
        /// What it said, if anything.
        said: String,
    },
    /// The inspection channel gives nothing.
    #[error(transparent)]
    Inspect(#[from] inspect::Error),
}

/// One machine.
#[derive(Debug)]
pub struct Machine {
    /// What the scenario says about it.
    pub spec: MachineSpec,
    /// Its image.
    pub image: Utf8PathBuf,
    /// Host port to guest port.
    pub forward: Vec<(u16, u16)>,
    /// The byte that was changed on its disk.
    pub flipped: Option<Flipped>,
    /// How it runs.
    accel: Accel,
    firmware: Firmware,
    folder: Utf8PathBuf,
    told: Told,
    /// Whether the disk is as the image has it, and was never switched on.
    fresh: bool,
    boots: Vec<Boot>,
    running: Option<Running>,
}

/// What a machine is told when it is switched on.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Credentials. Those in the ESP stay there from the first boot on.
    pub credentials: Vec<Credential>,
    /// What is added to the kernel's command line, credentials aside.
    pub kernel_arguments: Option<String>,
    /// Bytes of a read-only disk.
    pub drive: Option<Zeroizing<Vec<u8>>>,
}

impl Told {
    fn by(&self, ways: &[By]) -> impl Iterator<Item = &Credential> {
        self.credentials
            .iter()
            .filter(move |credential| ways.contains(&credential.by))
    }

    /// SMBIOS strings: credentials, and the kernel's arguments as one.
    fn smbios(&self) -> impl Iterator<Item = String> {
        let credentials = self.by(&[By::Smbios]);
        let texts = credentials.map(|one| qemu::credential(&one.name, &one.bytes));
        let arguments: Vec<String> = self
            .by(&[By::KernelCommandLine])
            .map(|one| qemu::credential_argument(&one.name, &one.bytes))
            .chain(self.kernel_arguments.clone())
            .collect();
        let arguments =
            (!arguments.is_empty()).then(|| qemu::kernel_arguments(&arguments.join(" ")));
        texts.chain(arguments)
    }

    fn fill_esp(&self, disk: &Utf8Path) -> Result<(), esp::Error> {
        let files: Vec<(Reader, String, &[u8])> = self
            .by(&[By::Esp, By::Closed, By::Uki])
            .map(|one| {
                let reader = match one.by {
                    By::Uki => Reader::Kernel,
                    _ => Reader::All,
                };
                (reader, one.file_name(), one.bytes.as_slice())
            })
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        esp::place(disk, &files)
    }
}

/// What is left of one boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Folder of its logs.
    pub folder: Utf8PathBuf,
    /// Why it was started again, when it was.
    pub retried: Option<String>,
    /// QEMU's arguments as any user of the host could read them.
    pub arguments: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    channel: Channel,
    since: Instant,
    /// Runs of the agent that a step has dealt with.
    dealt_with: usize,
}

/// What [`Machine::poll`] noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Nothing new.
    Nothing,
    /// It was started again, for this reason.
    Retried(String),
    /// QEMU has ended.
    Ended(String),
}

impl Machine {
    /// Prepares a machine below `folder`: disk, firmware variables.
    pub fn prepare(
        spec: MachineSpec,
        image: Utf8PathBuf,
        accel: Accel,
        firmware: Firmware,
        folder: Utf8PathBuf,
    ) -> Result<Self, Error> {
        let mut forward = Vec::new();
        for port in &spec.forward {
            let failed = |source| Error::Io {
                path: folder.clone(),
                source,
            };
            forward.push((super::infra::free_port().map_err(failed)?, *port));
        }
        let mut machine = Self {
            spec,
            image,
            forward,
            flipped: None,
            accel,
            firmware,
            folder,
            told: Told::default(),
            fresh: true,
            boots: Vec::new(),
            running: None,
        };
        machine.make_disk()?;
        Ok(machine)
    }

    fn make_disk(&mut self) -> Result<(), Error> {
        let failed = |path: &Utf8Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        fs_err::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let disk = self.disk();
        disk::throw_away_copy(&self.image, &disk, self.spec.disk)?;
        if let Some(tamper) = &self.spec.tamper {
            let scratch = self.folder.join("usr.erofs");
            self.flipped = Some(disk::tamper(&disk, tamper, &scratch)?);
        }
        let variables = self.variables();
        fs_err::copy(&self.firmware.variables, &variables).map_err(failed(&variables))?;
        self.fresh = true;
        Ok(())
    }

    /// The disk, raw.
    pub fn disk(&self) -> Utf8PathBuf {
        self.folder.join("disk.raw")
    }

    /// The machine's folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    fn variables(&self) -> Utf8PathBuf {
        self.folder.join("variables.fd")
    }

    /// All boots so far, oldest first; the last one may still run.
    pub fn boots(&self) -> &[Boot] {
        &self.boots
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Switches it on and tells it this.
    pub fn boot(&mut self, told: Told) -> Result<(), Error> {
        self.told = told;
        self.start(None)
    }

    fn start(&mut self, retried: Option<String>) -> Result<(), Error> {
        let folder = self.folder.join(format!("boot{}", self.boots.len() + 1));
        let failed = |source| Error::Io {
            path: folder.clone(),
            source,
        };
        fs_err::create_dir_all(&folder).map_err(failed)?;
        if self.fresh {
            self.told.fill_esp(&self.disk())?;
            self.fresh = false;
        }
        let mut smbios = Vec::new();
        for (index, text) in self.told.smbios().enumerate() {
            let path = folder.join(format!("smbios.{index}"));
            write_private(&path, text.as_bytes()).map_err(failed)?;
            smbios.push(path);
        }
        let mut fw_cfg = Vec::new();
        for (index, credential) in self.told.by(&[By::FwCfg]).enumerate() {
            let path = folder.join(format!("fw_cfg.{index}"));
            write_private(&path, &credential.bytes).map_err(failed)?;
            fw_cfg.push((format!("{FW_CFG}{}", credential.name), path));
        }
        let drive = folder.join("drive.0");
        if let Some(bytes) = &self.told.drive {
            write_private(&drive, bytes).map_err(failed)?;
        }
        let machine = qemu::Machine {
            name: self.spec.name.clone(),
            accel: self.accel,
            memory: self.spec.memory,
            cpus: self.spec.cpus,
            firmware: self.firmware.code.clone(),
            variables: self.variables(),
            disk: self.disk(),
            address: self.spec.address,
            forward: self.forward.clone(),
            folder: folder.clone(),
            drives: self.told.drive.iter().map(|_| drive.clone()).collect(),
            smbios,
            fw_cfg,
        };
        let mut child = machine.command().spawn()?;
        let deadline = Instant::now() + QUIT_LIMIT;
        let channel = loop {
            if let Ok(channel) = Channel::connect(machine.inspect().as_std_path()) {
                break channel;
            }
            if let Some(status) = child.try_wait()? {
                let status = status.to_string();
                return Err(Error::Gone {
                    status,
                    said: said(&folder),
                });
            }
            if Instant::now() > deadline {
                return Err(inspect::Error::Silent.into());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let arguments = fs_err::read(format!("/proc/{}/cmdline", child.pid())).unwrap_or_default();
        // QEMU has read them; what is left on disk is one place less to guard. It
        // opens drives and fw_cfg's files later, at a moment that nothing tells:
        // they stay in the run's folder, for this user alone.
        for path in &machine.smbios {
            fs_err::remove_file(path).map_err(failed)?;
        }
        self.boots.push(Boot {
            folder,
            retried,
            arguments,
        });
        self.running = Some(Running {
            child,
            channel,
            since: Instant::now(),
            dealt_with: 0,
        });
        Ok(())
    }

    /// Notices what happened by itself. A kernel that dies before the initrd
    /// runs is started again once: emulators do that now and then, by a race
    /// in patching code. At no other time, and never on a tampered disk.
    pub fn poll(&mut self) -> Result<Noticed, Error> {
        let Some(running) = &mut self.running else {
            return Ok(Noticed::Nothing);
        };
        let status = running.child.try_wait()?;
        if self.may_retry() && console::died_before_initrd(&self.console()) {
            let reason = "the kernel died before the initrd ran".to_owned();
            self.end();
            if self.boots.len() == 1 {
                self.make_disk()?;
            }
            self.start(Some(reason.clone()))?;
            return Ok(Noticed::Retried(reason));
        }
        if let Some(status) = status {
            self.running = None;
            let status = status.to_string();
            return Ok(Noticed::Ended(status));
        }
        Ok(Noticed::Nothing)
    }

    fn may_retry(&self) -> bool {
        self.spec.tamper.is_none() && self.boots.iter().all(|boot| boot.retried.is_none())
    }

    /// The console of the current or last boot, as clean text.
    pub fn console(&self) -> String {
        self.boots
            .last()
            .map_or_else(String::new, |boot| read_console(&boot.folder))
    }

    /// What the result port of the current or last boot has said.
    pub fn results(&self) -> port::Log {
        let Some(boot) = self.boots.last() else {
            return port::Log::default();
        };
        let bytes = fs_err::read(boot.folder.join("result.jsonl")).unwrap_or_default();
        port::Log::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Runs of the agent in this boot that no step has dealt with yet.
    pub fn new_outcomes(&self) -> Vec<port::Outcome> {
        let from = self
            .running
            .as_ref()
            .map_or(0, |running| running.dealt_with);
        self.results()
            .outcomes
            .split_off(from.min(self.results().outcomes.len()))
    }

    /// Marks the next `count` runs of the agent as dealt with.
    pub fn deal_with(&mut self, count: usize) {
        if let Some(running) = &mut self.running {
            running.dealt_with += count;
        }
    }

    /// How many runs of the agent steps have dealt with in this boot.
    pub fn dealt_with(&self) -> usize {
        self.running
            .as_ref()
            .map_or(0, |running| running.dealt_with)
    }

    /// Time since it was switched on.
    pub fn uptime(&self) -> Duration {
        self.running
            .as_ref()
            .map_or(Duration::ZERO, |running| running.since.elapsed())
    }

    /// Runs a script inside.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Answer, Error> {
        let running = self.running.as_mut().ok_or(Error::Off)?;
        Ok(running.channel.run(script, limit)?)
    }

    /// Tells it to shut down from inside.
    pub fn shut_down(&mut self, limit: Duration) -> Result<(), Error> {
        let running = self.running.as_mut().ok_or(Error::Off)?;
        running
            .channel
            .tell("systemctl --no-block poweroff", limit)?;
        Ok(())
    }

    /// Whether the inspection channel serves.
    pub fn answers(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|running| running.channel.is_open())
    }

    /// Ends QEMU in order, or at all. The guest is not asked.
    pub fn end(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        if let Some(boot) = self.boots.last()
            && quit(&boot.folder.join("qmp.sock")).is_ok()
            && matches!(running.child.wait_timeout(QUIT_LIMIT), Ok(Some(_)))
        {
            return;
        }
        // Dropping the child would end it as well, after a grace that nothing needs.
        let _ = running.child.kill();
    }
}

/// The console log of one boot as clean text.
pub fn read_console(boot: &Utf8Path) -> String {
    console::clean(&fs_err::read(boot.join("console.log")).unwrap_or_default())
}

fn said(folder: &Utf8Path) -> String {
    let log = fs_err::read(folder.join("qemu.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines = console::last_words(&log, 5).join("\n");
    if lines.is_empty() {
        lines
    } else {
        format!(":\n{lines}")
    }
}

/// Writes a file that only this user can read.
pub(super) fn write_private(path: &Utf8Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// Tells QEMU on its control channel to end.
fn quit(socket: &Utf8Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    // The greeting, then one answer per command.
    lines.next().transpose()?;
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    lines.next().transpose()?;
    stream.write_all(b"{\"execute\":\"quit\"}\n")
}
