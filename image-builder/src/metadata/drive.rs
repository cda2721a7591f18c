//! A NoCloud config drive: a FAT file system labelled `CIDATA` with `meta-data`
//! and `user-data`, as cloud-init's `NoCloud` source describes it. Equal input
//! gives equal bytes.

use std::io::{self, Cursor, Write as _};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The file system's label, by which the node finds it.
pub const LABEL: &str = "CIDATA";

/// Room beside the document: a drive's fixed parts, and metadata of any usual size.
const SIZE: usize = 1024 * 1024;

/// Nothing of the clock gets into the drive.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            // FAT's first day.
            date: Date {
                year: 1980,
                month: 1,
                day: 1,
            },
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

static NO_TIME: NoTime = NoTime;

/// The bytes of a drive for `node` that holds `document` as its user data.
pub fn image(node: &str, document: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = SIZE + document.len().next_multiple_of(64 * 1024);
    let mut bytes = Zeroizing::new(vec![0; size]);
    // Of the name alone: a digest of secrets would be one to guess against.
    let id: [u8; 4] = Sha256::digest(format!("sf-image config drive\n{node}"))
        .first_chunk()
        .copied()
        .unwrap_or_default();
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat12)
        .volume_id(u32::from_le_bytes(id))
        .volume_label(*b"CIDATA     ");
    fatfs::format_volume(Cursor::new(bytes.as_mut_slice()), options)?;
    {
        let disk = Cursor::new(bytes.as_mut_slice());
        let volume = FileSystem::new(disk, FsOptions::new().time_provider(&NO_TIME))?;
        for (name, content) in [
            ("meta-data", meta_data(node).as_str()),
            ("user-data", document),
        ] {
            let mut file = volume.root_dir().create_file(name)?;
            file.write_all(content.as_bytes())?;
            file.flush()?;
        }
        volume.unmount()?;
    }
    Ok(bytes)
}

/// The instance is the node, whatever its metadata says today: metadata that is
/// changed and sealed again does not make the node a new one.
fn meta_data(node: &str) -> String {
    format!("instance-id: {node}\nlocal-hostname: {node}\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn read(bytes: &[u8], name: &str) -> String {
        let mut copy = bytes.to_vec();
        let disk = Cursor::new(copy.as_mut_slice());
        let volume = FileSystem::new(disk, FsOptions::new()).expect("a FAT file system");
        assert_eq!(volume.volume_label(), LABEL);
        let mut text = String::new();
        let mut file = volume.root_dir().open_file(name).expect(name);
        file.read_to_string(&mut text).expect("read");
        text
    }

    #[test]
    fn a_drive_holds_what_it_was_given_and_nothing_of_the_clock() {
        let large = format!("schema = 1\n# {}\n", "x".repeat(900_000));
        for document in ["schema = 1\n", large.as_str()] {
            let bytes = image("hv1.example.com", document).expect("image");
            assert_eq!(read(&bytes, "user-data"), document);
            assert_eq!(
                read(&bytes, "meta-data"),
                "instance-id: hv1.example.com\nlocal-hostname: hv1.example.com\n"
            );
            let again = image("hv1.example.com", document).expect("image");
            assert!(bytes == again, "two drives of one document differ");
        }
    }
}
