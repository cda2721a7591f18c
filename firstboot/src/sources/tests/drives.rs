//! Config drives made by the real tools: mkfs.fat with mcopy, and xorriso.

use proptest::prelude::*;
use sf_command::{Cmd, Tool};

use super::*;
use crate::sources::drive::{read_file, unescaped};

/// What a drive is made of.
#[derive(Clone, Copy, Debug)]
enum Format {
    Fat(u8),
    /// With these options of mkisofs.
    Iso(&'static [&'static str]),
}

const ALL: [Format; 6] = [
    Format::Fat(12),
    Format::Fat(16),
    Format::Fat(32),
    Format::Iso(&["-rock"]),
    Format::Iso(&["-joliet"]),
    Format::Iso(&["-rock", "-joliet"]),
];

const OPENSTACK_USER_DATA: &str = "openstack/latest/user_data";

/// An image of a drive with these files.
fn image(format: Format, label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, content) in files {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let image = folder.path().join("image");
    match format {
        Format::Fat(bits) => {
            let kib = match bits {
                12 => "1440",
                16 => "16384",
                _ => "40000",
            };
            Cmd::new(Tool::MkfsFat)
                .args(["-F", &bits.to_string(), "-n", label, "-C"])
                .arg(&image)
                .arg(kib)
                .run()
                .unwrap();
            let tops = fs::read_dir(&tree)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let tops: Vec<_> = tops.collect();
            if !tops.is_empty() {
                Cmd::new(Tool::Mcopy)
                    .args(["-s", "-i"])
                    .arg(&image)
                    .args(tops)
                    .arg("::")
                    .run()
                    .unwrap();
            }
        }
        Format::Iso(options) => {
            Cmd::new(Tool::Xorriso)
                .args(["-as", "mkisofs", "-quiet", "-V", label])
                .args(options)
                .arg("-o")
                .arg(&image)
                .arg(&tree)
                .run()
                .unwrap();
        }
    }
    fs::read(image).unwrap()
}

fn nocloud(files: &[(&str, &[u8])]) -> Machine {
    Machine::new().file(
        "/dev/disk/by-label/CIDATA",
        image(Format::Fat(12), "CIDATA", files),
    )
}

fn looked(machine: &Machine, layer: Layer) -> String {
    let collected = collect(&machine.places());
    let place = collected.looked.iter().find(|place| place.layer == layer);
    place.unwrap().to_string()
}

#[test]
fn every_format_is_read() {
    let big: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let many: Vec<(String, Vec<u8>)> = (0..150)
        .map(|n| {
            (
                format!("many/a file of many, number {n}.txt"),
                vec![b'x'; 10],
            )
        })
        .collect();
    let mut files: Vec<(&str, &[u8])> = vec![
        ("user-data", GOOD.as_bytes()),
        ("meta-data", b"instance-id: iid-7\n"),
        ("openstack/latest/user_data", b"deep"),
        ("openstack/latest/meta_data.json", b"{}"),
        ("big", &big),
        ("empty", b""),
    ];
    files.extend(
        many.iter()
            .map(|(name, content)| (name.as_str(), content.as_slice())),
    );
    for format in ALL {
        let image = image(format, "CIDATA", &files);
        for (name, content) in &files {
            let read = read_file(&image, name).unwrap();
            assert_eq!(read.as_deref(), Some(*content), "{format:?} {name}");
        }
        assert!(read_file(&image, "USER-DATA").unwrap().is_some());
        for absent in ["user-dat", "openstack/user_data", "user-data/x", ""] {
            assert!(
                read_file(&image, absent).unwrap().is_none(),
                "{format:?} {absent:?}"
            );
        }
        let folder = read_file(&image, "openstack/latest").unwrap_err();
        assert_eq!(
            folder.to_string(),
            "openstack/latest on it is a folder, not a file"
        );
    }
}

#[test]
fn a_long_rock_ridge_name_is_continued() {
    let long = format!("{}.toml", "n".repeat(240));
    let image = image(Format::Iso(&["-rock"]), "cidata", &[(&long, b"found")]);
    assert_eq!(
        read_file(&image, &long).unwrap().as_deref(),
        Some(b"found".as_slice())
    );
}

#[test]
fn a_nocloud_drive_is_metadata() {
    for (label, format) in [
        ("CIDATA", Format::Fat(12)),
        ("cidata", Format::Iso(&["-rock"])),
    ] {
        let text = format!("#sf-metadata\n{GOOD}");
        let files: [(&str, &[u8]); 2] = [
            ("user-data", text.as_bytes()),
            ("meta-data", b"instance-id: iid-7\n"),
        ];
        let machine = Machine::new().file(
            &format!("/dev/disk/by-label/{label}"),
            image(format, label, &files),
        );
        let loaded = machine.load().unwrap();
        assert_eq!(loaded.metadata.node.name, "hv1.example.com");
        assert_eq!(
            looked(&machine, Layer::NoCloudDrive),
            format!("NoCloud drive {label}: found (instance iid-7)")
        );
        let collected = collect(&machine.places());
        assert_eq!(
            collected.merged.place("node.name").unwrap(),
            format!("NoCloud drive {label}, user-data:4")
        );
        // A file on the node is stronger, field by field.
        let machine = machine.file(FILE, "schema = 1\nnode.name = \"other.example.com\"\n");
        assert_eq!(
            machine.load().unwrap().metadata.node.name,
            "other.example.com"
        );
        let collected = collect(&machine.places());
        let shown = collected.explain(Some("node.name")).unwrap()[0].to_string();
        assert!(
            shown.contains(&format!(
                "shadowed  NoCloud drive {label}, user-data:4 = \"hv1.example.com\""
            )),
            "{shown}"
        );
    }
}

#[test]
fn an_openstack_drive_is_metadata_and_nocloud_is_stronger() {
    let drive = image(
        Format::Iso(&["-rock", "-joliet"]),
        "config-2",
        &[
            ("openstack/latest/user_data", GOOD.as_bytes()),
            ("openstack/latest/meta_data.json", b"{\"uuid\": \"u-1\"}"),
        ],
    );
    let machine = Machine::new().file("/dev/disk/by-label/config-2", &drive);
    assert_eq!(
        machine.load().unwrap().metadata.node.name,
        "hv1.example.com"
    );
    assert_eq!(
        looked(&machine, Layer::OpenStackDrive),
        "OpenStack config drive config-2: found (instance u-1)"
    );
    let machine = machine.file(
        "/dev/disk/by-label/CIDATA",
        image(
            Format::Fat(12),
            "CIDATA",
            &[("user-data", b"schema = 1\nnode.name = \"n.example.com\"\n")],
        ),
    );
    assert_eq!(machine.load().unwrap().metadata.node.name, "n.example.com");
}

#[test]
fn what_is_wrong_with_a_drive_is_said() {
    let good = image(Format::Fat(12), "CIDATA", &[("user-data", GOOD.as_bytes())]);
    let at = |label: &str, bytes: &[u8]| {
        Machine::new().file(&format!("/dev/disk/by-label/{label}"), bytes)
    };
    let large = vec![b'#'; 1024 * 1024 + 1];
    let mut shown = String::new();
    for machine in [
        nocloud(&[("user-data", b"#cloud-config\npackages: []\n")]),
        nocloud(&[("user-data", b"\x1f\x8b\x08\0\0")]),
        nocloud(&[("user-data", b"a = \xff\n")]),
        nocloud(&[("user-data", b"schema = 1\n[nodes]\n")]).file(FILE, GOOD),
        at("cidata", b"no file system"),
        at("cidata", &vec![0; 100_000]),
        at("cidata", &good[..1000]),
        at(
            "cidata",
            &image(Format::Fat(16), "CIDATA", &[("user-data", &large)]),
        ),
        at("cidata", &good).file("/dev/disk/by-label/CIDATA", &good),
        at(
            "config-2",
            &image(
                Format::Fat(12),
                "CONFIG-2",
                &[
                    ("openstack/latest/user_data", GOOD.as_bytes()),
                    ("openstack/latest/meta_data.json", b"<html>"),
                ],
            ),
        ),
        Machine::new().file("/dev/disk/by-label/cidata/x", ""),
    ] {
        shown.push_str(&machine.failure());
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn drives_without_metadata_are_not_here() {
    let mut shown = String::new();
    for machine in [
        Machine::new(),
        nocloud(&[]),
        nocloud(&[("user-data", b"\n")]),
        Machine::new()
            .file("/dev/disk/by-label/SYSTEM", "x")
            .file("/dev/disk/by-label/sf\\x20meta", "x"),
    ] {
        assert_eq!(
            machine.load().unwrap_err().failures[0].code.id,
            "SF-META-MISSING"
        );
        shown.push_str(&looked(&machine, Layer::NoCloudDrive));
        shown.push('\n');
    }
    insta::assert_snapshot!(shown, @"
    NoCloud drive cidata: no file system has the label cidata or CIDATA
    NoCloud drive CIDATA: it has neither sf-metadata.toml nor user-data
    NoCloud drive CIDATA: its user-data is empty
    NoCloud drive cidata: no file system has the label cidata or CIDATA; there are: SYSTEM, sf meta
    ");
}

/// What Shaken Fist attaches to an instance that was given no user data: its
/// disc has level 4, both kinds of names, and a `#cloud-config` without content.
#[test]
fn shaken_fists_drive_without_user_data_is_not_here() {
    let drive = image(
        Format::Iso(&["-iso-level", "4", "-rock", "-joliet"]),
        "config-2",
        &[
            ("openstack/latest/user_data", b"#cloud-config\n"),
            ("openstack/latest/meta_data.json", b"{\"uuid\": \"u-1\"}"),
            ("openstack/2017-02-22/user_data", b"#cloud-config\n"),
        ],
    );
    let machine = Machine::new()
        .file("/dev/disk/by-label/config-2", drive)
        .file(FILE, GOOD);
    machine.load().unwrap();
    assert_eq!(
        looked(&machine, Layer::OpenStackDrive),
        "OpenStack config drive config-2: its openstack/latest/user_data is empty (instance u-1)"
    );
}

#[test]
fn an_own_file_wins_over_user_data_of_cloud_init() {
    let machine = nocloud(&[
        ("user-data", b"#cloud-config\n"),
        ("sf-metadata.toml", GOOD.as_bytes()),
    ]);
    machine.load().unwrap();
    assert_eq!(
        looked(&machine, Layer::NoCloudDrive),
        "NoCloud drive CIDATA: found"
    );
}

#[test]
fn drives_are_never_written() {
    let machine = nocloud(&[("user-data", GOOD.as_bytes())]);
    let path = machine.path("/dev/disk/by-label/CIDATA");
    let before = fs::read(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    machine.load().unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn labels_are_compared_as_udev_writes_them() {
    assert_eq!(unescaped("config\\x2d2"), "config-2");
    assert_eq!(unescaped("a\\x20b\\x2"), "a b\\x2");
    assert_eq!(unescaped("cidata\\x20\\x20"), "cidata");
    let machine = Machine::new().file(
        "/dev/disk/by-label/config\\x2d2",
        image(
            Format::Fat(12),
            "config-2",
            &[("sf-metadata.toml", GOOD.as_bytes())],
        ),
    );
    machine.load().unwrap();
}

#[test]
fn udev_is_waited_for_only_by_a_run() {
    let machine = Machine::new().file("/run/udev/queue", "");
    let queue = machine.path("/run/udev/queue");
    let began = std::time::Instant::now();
    collect(&machine.places());
    assert!(began.elapsed() < Duration::from_secs(5));
    let drive = image(Format::Fat(12), "CIDATA", &[("user-data", GOOD.as_bytes())]);
    let mut told = Vec::new();
    // The drive appears while udev is waited for.
    let collected = collect_telling(&machine.places().remote(Remote::RUN), &mut |text| {
        if told.is_empty() {
            let path = machine.path("/dev/disk/by-label/CIDATA");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &drive).unwrap();
            fs::remove_file(&queue).unwrap();
        }
        told.push(text.to_owned());
    });
    load(&collected).unwrap();
    assert_eq!(
        told,
        [
            "waiting for udev to look at all drives",
            "reading the NoCloud drive CIDATA"
        ]
    );
}

/// A stick that is slow, a disc that a BMC attaches: udev had looked at
/// everything before it was there.
#[test]
fn a_drive_that_shows_up_late_is_waited_for_where_there_is_nothing_else() {
    const WAITING: &str = "no source has metadata; waiting for a drive that shows up late";
    let says_nothing = image(
        Format::Fat(12),
        "config-2",
        &[(OPENSTACK_USER_DATA, b"#cloud-config\n")],
    );
    for (label, name, beside) in [
        ("CIDATA", "user-data", None),
        ("config-2", OPENSTACK_USER_DATA, None),
        ("CIDATA", "user-data", Some(&says_nothing)),
    ] {
        let drive = image(Format::Fat(12), label, &[(name, GOOD.as_bytes())]);
        let mut machine = Machine::new();
        if let Some(beside) = beside {
            machine = machine.file("/dev/disk/by-label/config-2", beside);
        }
        let mut told = Vec::new();
        let collected = collect_telling(&machine.places().remote(Remote::RUN), &mut |text| {
            if text == WAITING {
                let path = machine.path(&format!("/dev/disk/by-label/{label}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &drive).unwrap();
            }
            told.push(text.to_owned());
        });
        load(&collected).unwrap();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let [.., WAITING, read] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert!(read.starts_with("reading the "), "{told:?}");
    }
    // Who has metadata, or does not ask, waits for nothing.
    for (machine, remote) in [
        (Machine::new().file(FILE, GOOD), Remote::RUN),
        (Machine::new().file(FILE, "broken"), Remote::RUN),
        (Machine::new(), Remote::Kept),
    ] {
        collect_telling(&machine.places().remote(remote), &mut |text| {
            panic!("{text}")
        });
    }
    // There is an end to it.
    let limit = Remote::Ask {
        wait: Duration::from_millis(100),
        wait_with_copy: Duration::ZERO,
    };
    let mut told = Vec::new();
    let collected = collect_telling(&Machine::new().places().remote(limit), &mut |text| {
        told.push(text.to_owned());
    });
    assert!(collected.is_empty() && told.contains(&WAITING.to_owned()));
}

/// A real drive of each format, and the places of its bytes that say something.
fn real_drives() -> Vec<(Vec<u8>, Vec<usize>)> {
    let files: [(&str, &[u8]); 2] = [
        ("user-data", GOOD.as_bytes()),
        ("openstack/latest/user_data", b"deep"),
    ];
    ALL.iter()
        .map(|format| {
            let mut image = image(*format, "CIDATA", &files);
            // The files stand at its beginning; copying the rest takes time.
            image.truncate(2 * 1024 * 1024);
            let places = (0..image.len()).filter(|at| image[*at] != 0).collect();
            (image, places)
        })
        .collect()
}

proptest! {
    // More with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Changed bytes of real drives reach further than noise does.
    #[test]
    fn damaged_drives_end_with_an_answer(
        format in 0..ALL.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..30),
    ) {
        thread_local! {
            static DRIVES: Vec<(Vec<u8>, Vec<usize>)> = real_drives();
        }
        DRIVES.with(|drives| {
            let (image, places) = &drives[format];
            let mut image = image.clone();
            for (at, byte) in changes {
                image[*at.get(places)] = byte;
            }
            let _ = read_file(&image, "user-data");
            let _ = read_file(&image, "openstack/latest/user_data");
        });
    }

    #[test]
    fn noise_is_no_drive(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(read_file(&bytes, "x").is_err());
        let _ = unescaped(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn loops_end() {
    // A FAT whose root folder's chain leads to itself.
    let mut fat = image(Format::Fat(32), "CIDATA", &[("user-data", GOOD.as_bytes())]);
    let table = usize::from(u16::from_le_bytes([fat[14], fat[15]])) * 512;
    fat[table + 8..table + 12].copy_from_slice(&[2, 0, 0, 0]);
    let error = read_file(&fat, "absent-file").unwrap_err().to_string();
    assert_eq!(error, "its file system is damaged: a folder has no end");
}
