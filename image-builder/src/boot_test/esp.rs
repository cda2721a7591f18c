//! Files in the EFI system partition of a disk, as an operator puts them there
//! before the disk's first boot.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use fatfs::{FileSystem, FsOptions};

use super::disk;

/// The partition type of an EFI system partition.
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// Where kernels are.
const KERNELS: &str = "EFI/Linux";

/// Credentials for every kernel of the partition.
const CREDENTIALS: &str = "loader/credentials";

/// Why files cannot be put there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk cannot be read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The file system cannot be read or written.
    #[error("cannot write to the EFI system partition of the disk")]
    Fat(#[from] io::Error),
    /// There is not exactly one kernel.
    #[error("{KERNELS} of the EFI system partition has {0} kernels; one was expected")]
    Kernels(usize),
}

/// For whom a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Every kernel of the partition.
    All,
    /// The one kernel that there is.
    Kernel,
}

/// Puts credential files where systemd-stub looks for them.
pub fn place(disk: &Utf8Path, files: &[(Reader, String, &[u8])]) -> Result<(), Error> {
    let partition = disk::find(disk, ESP, "EFI system")?;
    let file = File::options().read(true).write(true).open(disk)?;
    let window = Window {
        file,
        start: partition.start,
        size: partition.size,
        at: 0,
    };
    let volume = FileSystem::new(window, FsOptions::new())?;
    {
        let root = volume.root_dir();
        for (reader, name, bytes) in files {
            let folder = match reader {
                Reader::All => CREDENTIALS.to_owned(),
                Reader::Kernel => beside(&kernel(&root)?),
            };
            let mut inner = root.clone();
            for part in folder.split('/') {
                inner = inner.create_dir(part)?;
            }
            let mut file = inner.create_file(name)?;
            file.truncate()?;
            file.write_all(bytes)?;
            file.flush()?;
        }
    }
    volume.unmount()?;
    Ok(())
}

/// The folder of files for one kernel. The boot loader changes the counter in
/// the kernel's name (`sf_1+3.efi`), and systemd-stub leaves it out.
fn beside(kernel: &str) -> String {
    let stem = kernel.strip_suffix(".efi").unwrap_or(kernel);
    let name = stem.split_once('+').map_or(stem, |(name, _)| name);
    format!("{KERNELS}/{name}.efi.extra.d")
}

fn kernel<T: Read + Write + Seek>(root: &fatfs::Dir<'_, T>) -> Result<String, Error> {
    let mut kernels = Vec::new();
    for entry in root.open_dir(KERNELS)?.iter() {
        let name = entry?.file_name();
        // As FAT compares names.
        if name.to_ascii_lowercase().ends_with(".efi") {
            kernels.push(name);
        }
    }
    match &kernels[..] {
        [one] => Ok(one.clone()),
        all => Err(Error::Kernels(all.len())),
    }
}

/// A part of a file as a file of its own.
#[derive(Debug)]
struct Window {
    file: File,
    start: u64,
    size: u64,
    at: u64,
}

impl Window {
    /// As much of `wanted` bytes as there is up to the end.
    fn bounded(&self, wanted: usize) -> usize {
        usize::try_from(self.size.saturating_sub(self.at)).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bounded(buffer.len());
        let count = self
            .file
            .read_at(&mut buffer[..length], self.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.bounded(buffer.len());
        let count = self
            .file
            .write_at(&buffer[..length], self.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sf_command::{Cmd, Tool};

    const MIB: u64 = 1 << 20;

    #[test]
    fn files_are_put_where_the_stub_looks_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Utf8Path::from_path(folder.path()).unwrap().join("disk");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&disk)
            .unwrap();
        file.set_len(48 * MIB).unwrap();
        Cmd::new(Tool::Sfdisk)
            .args(["--quiet", "--"])
            .arg(&disk)
            .stdin(format!(
                "label: gpt\nstart=2048, size=65536, type={ESP}, name=esp\n\
                 start=67584, size=2048, type={}, name=next\n",
                disk::USR
            ))
            .run()
            .unwrap();
        let window = || Window {
            file: File::options().read(true).write(true).open(&disk).unwrap(),
            start: MIB,
            size: 32 * MIB,
            at: 0,
        };
        fatfs::format_volume(window(), fatfs::FormatVolumeOptions::new()).unwrap();
        let files = [
            (Reader::All, "sf.metadata.cred".to_owned(), &b"one"[..]),
            (Reader::Kernel, "deploy-key.cred".to_owned(), &b"two"[..]),
        ];
        // No kernel: nowhere to put the second one.
        assert!(place(&disk, &files).is_err());
        {
            let volume = FileSystem::new(window(), FsOptions::new()).unwrap();
            let kernels = volume.root_dir().create_dir("EFI").unwrap();
            let kernels = kernels.create_dir("Linux").unwrap();
            kernels.create_file("sf-hypervisor_0.7.2-1+3.efi").unwrap();
        }

        // Again is as good as once.
        place(&disk, &files).unwrap();
        place(&disk, &files).unwrap();
        let volume = FileSystem::new(window(), FsOptions::new()).unwrap();
        for (path, wanted) in [
            ("loader/credentials/sf.metadata.cred", "one"),
            (
                "EFI/Linux/sf-hypervisor_0.7.2-1.efi.extra.d/deploy-key.cred",
                "two",
            ),
        ] {
            let mut text = String::new();
            let mut file = volume.root_dir().open_file(path).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, wanted);
        }
        let mut next = vec![0xff; usize::try_from(MIB).unwrap()];
        file.read_exact_at(&mut next, 33 * MIB).unwrap();
        assert!(next.iter().all(|byte| *byte == 0), "beyond the partition");
    }
}
