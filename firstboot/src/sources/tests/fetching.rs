//! `sf.metadata_url` against real servers, good and bad.

use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::server::{Act, Ca, Server, answer, nobody, with};
use super::*;

/// Short waits: a test of patience shows that there is an end, not how far it is.
pub(super) const ONCE: Remote = Remote::Ask {
    wait: Duration::ZERO,
    wait_with_copy: Duration::ZERO,
};
const PATIENT: Remote = Remote::Ask {
    wait: Duration::from_secs(20),
    wait_with_copy: Duration::from_secs(1),
};

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// A machine whose kernel command line says that.
pub(super) fn booted(line: &str) -> Machine {
    Machine::new()
        .file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        .file("/proc/cmdline", format!("quiet {line} ro\n"))
}

fn with_digest(url: &str) -> Machine {
    booted(&format!(
        "sf.metadata_url={url} sf.metadata_sha256={}",
        digest(GOOD)
    ))
}

pub(super) fn fetch(machine: &Machine, remote: Remote) -> Collected {
    collect(&machine.places().remote(remote))
}

/// The failures of a fetch, as `CODE what | source | remedy`, ports masked.
pub(super) fn failure(machine: &Machine, remote: Remote) -> String {
    let rejected = load(&fetch(machine, remote)).unwrap_err();
    assert_eq!(rejected.failures.len(), 1, "{:#?}", rejected.failures);
    let mut line = machine.line(&rejected.failures[0]);
    while let Some(at) = line.find("127.0.0.1:") {
        let digits = line[at + 10..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        line.replace_range(at..at + 10 + digits, "SERVER");
    }
    line
}

/// What a run does in the end, by root's rules.
pub(super) fn keep(machine: &Machine, collected: &Collected) {
    collected.keep(&Paths::under(machine.path("/"))).unwrap();
}

fn url_place(collected: &Collected) -> String {
    let place = collected
        .looked
        .iter()
        .find(|place| place.layer == Layer::Url);
    place.unwrap().to_string()
}

#[test]
fn a_document_with_its_digest_is_metadata() {
    let server = Server::start(|_| answer(200, GOOD));
    let machine = with_digest(&server.url("/hv1.toml?token=S3CR3T"));
    let collected = fetch(&machine, ONCE);
    assert_eq!(
        load(&collected).unwrap().metadata.node.name,
        "hv1.example.com"
    );
    let place = collected.merged.place("node.name").unwrap();
    assert_eq!(place, format!("{}?******:3", server.url("/hv1.toml")));
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "GET /hv1.toml?token=S3CR3T HTTP/1.1");
    // Credentials say where, too, and a file on the node is stronger.
    let machine = Machine::new()
        .credential("sf.metadata_url", server.url("/x"))
        .credential("sf.metadata_sha256", digest(GOOD))
        .file(FILE, "schema = 1\nnode.name = \"file.example.com\"\n");
    let loaded = load(&fetch(&machine, ONCE)).unwrap();
    assert_eq!(loaded.metadata.node.name, "file.example.com");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

/// Of a document that is another one, no digest is told: it holds secrets.
#[test]
fn another_digest_is_left_to_whoever_may_fetch_the_document() {
    let other = format!("{GOOD}# changed\n");
    let text = other.clone();
    let server = Server::start(move |_| answer(200, &text));
    for (path, command) in [
        (
            "/n.toml",
            Some(format!("curl -sS '{}' | sha256sum", server.url("/n.toml"))),
        ),
        ("/n.toml?token=S3CR3T", None),
        ("/n'.toml", None),
    ] {
        let machine = with_digest(&server.url(path));
        let rejected = load(&fetch(&machine, ONCE)).unwrap_err();
        let failure = &rejected.failures[0];
        assert_eq!(failure.code.id, "SF-FETCH-DIGEST", "{path}");
        let by_hand = failure.remedy_text().split_once("From another machine: ");
        assert_eq!(
            by_hand.map(|(_, command)| command),
            command.as_deref(),
            "{path}"
        );
        let shown = format!("{failure:?}");
        assert!(!shown.contains(&digest(&other)), "{shown}");
        assert!(shown.contains(&digest(GOOD)), "{shown}");
    }
}

#[test]
fn what_vouches_for_nothing_is_refused_before_anything_is_asked() {
    let server = Server::start(|_| answer(200, GOOD));
    let url = server.url("/n");
    let ca = Ca::new("test");
    let mut shown = String::new();
    for line in [
        format!("sf.metadata_url={url}"),
        format!("sf.metadata_url={}", url.replace("http:", "https:")),
        format!("sf.metadata_url={url} sf.metadata_sha256=abc"),
        format!("sf.metadata_url=ftp://x/ sf.metadata_sha256={}", digest("")),
        format!(
            "sf.metadata_url=http://u:S3CR3T@h/ sf.metadata_sha256={}",
            digest("")
        ),
        format!("sf.metadata_sha256={}", digest("")),
        "sf.metadata_ca=system".into(),
        "sf.metadata_url=https://h/ sf.metadata_ca=system".into(),
        "sf.metadata_url=https://h/ sf.metadata_ca=sha256:12".into(),
        "sf.metadata_url=https://h/ sf.metadata_ca=everybody".into(),
        "sf.metadata_url=https://h/ sf.metadata_url=https://i/".into(),
        "sf.metadata_sha=1".into(),
        "sf.metadat_url=https://h/".into(),
        "sf.metadata_url=".into(),
    ] {
        shown.push_str(&failure(&booted(&line), ONCE));
        shown.push('\n');
    }
    for machine in [
        booted("sf.metadata_url=https://h/").credential("sf.metadata_url", "https://i/"),
        booted("sf.metadata_url=https://h/")
            .credential("sf.metadata_ca", "-----BEGIN CERTIFICATE-----\n"),
        booted(&format!(
            "sf.metadata_url=https://h/ sf.metadata_ca={}",
            Ca::new("other").pin()
        ))
        .credential("sf.metadata_ca", &ca.pem),
    ] {
        shown.push_str(&failure(&machine, ONCE));
        shown.push('\n');
    }
    assert!(server.asked().is_empty());
    assert!(!shown.contains("S3CR3T"));
    insta::assert_snapshot!(shown);
}

#[test]
fn every_bad_answer_has_its_own_code() {
    let large = vec![b'#'; 1024 * 1024 + 1];
    let chunked = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut endless = chunked.as_bytes().to_vec();
    for _ in 0..20 {
        endless.extend(format!("{:x}\r\n", 60_000).as_bytes());
        endless.extend(vec![b'#'; 60_000]);
        endless.extend(b"\r\n");
    }
    let acts: Vec<(&str, Act)> = vec![
        ("404", answer(404, "no")),
        ("403", answer(403, "no")),
        ("404 with a large page", answer(404, &large)),
        ("503", answer(503, "later")),
        ("429", answer(429, "later")),
        (
            "redirect",
            with(
                302,
                "location: https://elsewhere.example.com/x?token=S3CR3T\r\n",
                "",
            ),
        ),
        ("redirect to nowhere", answer(308, "")),
        (
            "a web page by type",
            with(200, "content-type: text/html; charset=utf-8\r\n", "x"),
        ),
        ("an image", with(200, "content-type: image/png\r\n", "x")),
        ("compressed", with(200, "content-encoding: gzip\r\n", "x")),
        (
            "oversized by its header",
            Act::Bytes(b"HTTP/1.1 200 X\r\ncontent-length: 9999999\r\n\r\n".to_vec()),
        ),
        ("oversized", with(200, "", &large)),
        ("oversized in chunks", Act::Bytes(endless)),
        (
            "truncated",
            Act::Bytes(b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\nschema = 1\n".to_vec()),
        ),
        (
            "truncated in chunks",
            Act::Bytes(format!("{chunked}5\r\nabc").into_bytes()),
        ),
        (
            "truncated in the head",
            Act::Bytes(b"HTTP/1.1 200 X\r\ncontent".to_vec()),
        ),
        ("nothing", Act::Bytes(Vec::new())),
        ("not HTTP", Act::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
        (
            "slow",
            Act::Drip(
                b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n".to_vec(),
                Duration::from_millis(300),
            ),
        ),
        ("silent", Act::Silence),
        ("other digest", answer(200, "schema = 1\n")),
        ("empty", answer(200, "")),
    ];
    let machines: Vec<_> = acts
        .into_iter()
        .map(|(what, act)| {
            let server = Server::start(move |_| act.clone());
            (what, with_digest(&server.url("/n?token=S3CR3T")), server)
        })
        .collect();
    // All at once: several of them take their time.
    let mut shown: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = machines
            .iter()
            .map(|(what, machine, _)| {
                scope.spawn(move || format!("{what}: {}\n", failure(machine, ONCE)))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    shown.push(format!(
        "refused: {}\n",
        failure(&with_digest(&format!("{}/n", nobody())), ONCE)
    ));
    let name = with_digest("http://no-such-host.invalid/n");
    let line = failure(&name, ONCE);
    assert!(line.starts_with("SF-FETCH-DNS http://no-such-host.invalid/n gives no metadata: the name no-such-host.invalid does not resolve"), "{line}");
    let route = failure(&with_digest("http://[fe80::1]/n"), ONCE);
    assert!(route.starts_with("SF-FETCH-ROUTE"), "{route}");
    let shown = shown.concat();
    assert!(!shown.contains("S3CR3T"));
    insta::assert_snapshot!(shown);
}

/// Whatever is there before the request is written, and read only then.
#[test]
fn a_server_that_speaks_first_is_known_by_what_it_says() {
    use crate::sources::http::{Request, Trouble, Url, converse};
    use tokio::io::AsyncWriteExt as _;

    let said = |text: &'static str| {
        crate::database::runtime().unwrap().block_on(async {
            let (client, mut server) = tokio::io::duplex(4096);
            server.write_all(text.as_bytes()).await.unwrap();
            let request = Request::get(Url::parse("http://h.example.com/").unwrap());
            converse(&request, client, &std::cell::Cell::new("")).await
        })
    };
    let greeting = said("SSH-2.0-OpenSSH_9.2\r\n").unwrap_err();
    assert!(matches!(greeting, Trouble::NotHttp(_)), "{greeting:?}");
    let busy = said("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").unwrap_err();
    assert!(matches!(busy, Trouble::Unavailable(503)), "{busy:?}");
}

#[test]
fn a_page_without_a_type_is_recognised_and_user_data_for_others_too() {
    let page = "<!doctype html><title>log in</title>";
    let script = "#cloud-config\nusers: []\n";
    for (text, code) in [(page, "SF-META-FOREIGN"), (script, "SF-META-FOREIGN")] {
        let server = Server::start(move |_| answer(200, text));
        let machine = booted(&format!(
            "sf.metadata_url={} sf.metadata_sha256={}",
            server.url("/"),
            digest(text)
        ));
        assert!(failure(&machine, ONCE).starts_with(code));
    }
}

#[test]
fn a_server_that_comes_late_is_waited_for_and_said() {
    let mut turn = 0;
    let server = Server::start(move |_| {
        turn += 1;
        match turn {
            1 => answer(503, ""),
            2 => answer(429, ""),
            3 => Act::Bytes(Vec::new()),
            _ => answer(200, GOOD),
        }
    });
    let machine = with_digest(&server.url("/n?S3CR3T"));
    let mut told = Vec::new();
    let collected = collect_telling(&machine.places().remote(PATIENT), &mut |text| {
        told.push(text.to_owned());
    });
    load(&collected).unwrap();
    assert_eq!(server.asked().len(), 4);
    let url = server.url("/n?******");
    assert_eq!(
        told,
        [
            format!("waiting for {url}: it answers 503"),
            format!("waiting for {url}: it answers 429"),
            format!("waiting for {url}: the answer was cut off"),
        ]
    );
}

#[test]
fn what_lasts_is_not_tried_again() {
    let server = Server::start(|_| answer(404, ""));
    let began = Instant::now();
    failure(&with_digest(&server.url("/n")), PATIENT);
    assert_eq!(server.asked().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_environments_proxies_are_ignored_by_having_no_code_for_them() {
    // The request line has no host, as one to a proxy would.
    let server = Server::start(|_| answer(200, GOOD));
    load(&fetch(&with_digest(&server.url("/n")), ONCE)).unwrap();
    assert_eq!(server.asked()[0].line, "GET /n HTTP/1.1");
}

#[test]
fn a_dead_server_never_breaks_a_reboot() {
    let ca = Ca::new("ours");
    let switch = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(0));
    let state = switch.clone();
    let server = Server::tls(
        ca.server("127.0.0.1", [2020, 2100], true),
        move |_| match state.load(std::sync::atomic::Ordering::SeqCst) {
            0 => answer(200, GOOD),
            1 => answer(503, ""),
            2 => answer(200, GOOD.replace("hv1.example", "new.example")),
            3 => answer(404, ""),
            _ => answer(200, "schema = 1\n[nodes]\n"),
        },
    );
    let set = |state| switch.store(state, std::sync::atomic::Ordering::SeqCst);
    let machine = booted(&format!(
        "sf.metadata_url={} sf.metadata_ca={}",
        server.url("/n?S3CR3T"),
        ca.pin()
    ));
    let folder = machine.path("/var/lib/sf-firstboot/metadata");

    // What only reads keeps nothing, and without a copy there is nothing to use.
    let first = fetch(&machine, ONCE);
    load(&first).unwrap();
    assert!(!folder.exists());
    assert!(url_place(&fetch(&machine, Remote::Kept)).contains("not asked by this command"));
    set(1);
    assert!(failure(&machine, ONCE).starts_with("SF-FETCH-UNAVAILABLE"));

    keep(&machine, &first);
    let copies: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert_eq!(copies.len(), 1);
    let path = copies[0].path();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!copies[0].file_name().to_string_lossy().contains("S3CR3T"));

    // The server is down: the copy is used, and said.
    let collected = fetch(&machine, PATIENT);
    let loaded = load(&collected).unwrap();
    assert_eq!(loaded.metadata.node.name, "hv1.example.com");
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].code.id, "SF-FETCH-KEPT");
    assert!(
        loaded.warnings[0]
            .what
            .contains("it answers 503; using the copy of its answer of 20"),
        "{}",
        loaded.warnings[0].what
    );
    let shown = collected.explain(Some("node.name")).unwrap()[0].to_string();
    assert!(shown.contains("(kept copy of 20"), "{shown}");
    keep(&machine, &collected);
    assert!(path.exists(), "a copy in use is kept");

    // The gate and explain do not even ask.
    let before = server.asked().len();
    load(&fetch(&machine, Remote::Kept)).unwrap();
    assert_eq!(server.asked().len(), before);
    // A desk looks at neither.
    assert!(url_place(&fetch(&machine, Remote::Skip)).contains("not looked at"));

    // Something new wins, at once and for good.
    set(2);
    let collected = fetch(&machine, ONCE);
    assert_eq!(
        load(&collected).unwrap().metadata.node.name,
        "new.example.com"
    );
    keep(&machine, &collected);
    set(1);
    assert_eq!(
        load(&fetch(&machine, ONCE)).unwrap().metadata.node.name,
        "new.example.com"
    );

    // What the server says counts, also when it is wrong.
    set(3);
    assert!(failure(&machine, ONCE).starts_with("SF-FETCH-STATUS"));
    set(4);
    let rejected = load(&fetch(&machine, ONCE)).unwrap_err();
    assert!(
        rejected
            .failures
            .iter()
            .any(|failure| failure.code.id == "SF-META-UNKNOWN-KEY")
    );

    // Another machine with a clone of the disk.
    set(1);
    let machine = machine.file("/sys/class/dmi/id/product_uuid", "another\n");
    assert!(failure(&machine, ONCE).starts_with("SF-FETCH-UNAVAILABLE"));
    fs::remove_file(machine.path("/sys/class/dmi/id/product_uuid")).unwrap();
    load(&fetch(&machine, ONCE)).unwrap();

    // A damaged copy is none.
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(failure(&machine, ONCE).starts_with("SF-FETCH-UNAVAILABLE"));
    fs::write(&path, whole).unwrap();

    // Another URL has nothing to do with it, and forgets it.
    let other = machine.file("/proc/cmdline", "").file(FILE, GOOD);
    let collected = fetch(&other, ONCE);
    load(&collected).unwrap();
    keep(&other, &collected);
    assert!(!path.exists());
}

#[test]
fn a_copy_with_the_wanted_digest_needs_no_server_and_one_with_another_is_useless() {
    let server = Server::start(|_| answer(200, GOOD));
    let machine = with_digest(&server.url("/n"));
    let collected = fetch(&machine, ONCE);
    load(&collected).unwrap();
    keep(&machine, &collected);
    let loaded = load(&fetch(&machine, ONCE)).unwrap();
    assert_eq!(server.asked().len(), 1);
    assert!(loaded.warnings.is_empty());
    let machine = machine.file(
        "/proc/cmdline",
        format!(
            "sf.metadata_url={} sf.metadata_sha256={}",
            server.url("/n"),
            digest("new")
        ),
    );
    assert!(failure(&machine, ONCE).starts_with("SF-FETCH-DIGEST"));
    assert!(url_place(&fetch(&machine, Remote::Kept)).contains("no copy"));
}

#[test]
fn a_mistake_is_not_waited_out_with_a_dead_server() {
    let machine = with_digest("http://127.0.0.1:1/hv1.toml").file(
        super::super::FILE,
        "schema = 1\n[node]\nnmae = \"hv1.example.com\"\n",
    );
    let rejected = load(&fetch(&machine, ONCE)).unwrap_err();
    assert_eq!(rejected.failures[0].code.id, "SF-FETCH-REFUSED");
    for summary in [rejected.summary(), rejected.below_frames()] {
        assert_eq!(summary.code.id, "SF-META-UNKNOWN-KEY", "{summary}");
    }
}

#[test]
fn one_byte_of_the_command_line_stops_nobody_but_its_own_parameter() {
    let server = Server::start(|_| answer(200, GOOD));
    let machine = |bytes: &[u8]| {
        let line = format!(
            "sf.metadata_url={} sf.metadata_sha256={}",
            server.url("/"),
            digest(GOOD)
        );
        Machine::new().file("/proc/cmdline", [bytes, b" ", line.as_bytes()].concat())
    };
    let theirs = machine(b"owner=Z\xfcrich \xff quiet");
    assert!(load(&fetch(&theirs, ONCE)).is_ok());
    // One of our own is refused by its name.
    let ours = Machine::new().file("/proc/cmdline", b"sf.metadata_url=https://h/\xfc");
    assert_eq!(
        failure(&ours, ONCE),
        "SF-FETCH-URL the value of sf.metadata_url is not UTF-8 text | kernel command line | Write it in ASCII; a URL has any other byte as % and two hex digits."
    );
}
