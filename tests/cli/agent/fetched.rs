//! A node whose metadata comes from a URL: it waits for the server, keeps what
//! it was given, and boots without the server from then on.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::maker::wait_for;
use super::node::{Node, phases};
use super::server::{Server, free_port};

/// Serves one text on a port until it is dropped.
struct Web {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    port: u16,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Web {
    fn start(port: u16, text: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let port = listener.local_addr().unwrap().port();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        let (ended, counted) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self {
            stop,
            asked,
            port,
            thread: Some(thread),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _wakes_it = std::net::TcpStream::connect(("127.0.0.1", self.port));
        let _ended = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Moves a node's metadata from its credential to a text for a server.
fn without_metadata(node: &Node) -> String {
    let path = "run/credentials/@system/sf.metadata";
    let text = node.read(path);
    std::fs::remove_file(node.root().join(path)).unwrap();
    text
}

#[test]
fn a_node_boots_from_a_url_and_later_without_it() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let text = without_metadata(&node);
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/node5.toml");
    let line = format!(
        "quiet sf.metadata_url={url} sf.metadata_sha256={}\n",
        hex::encode(Sha256::digest(&text))
    );
    std::fs::write(node.root().join("proc/cmdline"), line).unwrap();

    // Nobody there yet: it waits, and says for what.
    let first = node.start(&["run"]);
    let wanted = format!("waiting for {url}: connection refused");
    wait_for(&wanted, || {
        node.read("run/sf-firstboot/status.json").contains(&wanted)
    });
    assert!(!node.root().join("var/lib/sf-firstboot/metadata").exists());
    let web = Web::start(port, &text);
    let ran = Node::end(first);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(phases(&node.events()).ends_with(&["configure", "start"]));
    assert_eq!(web.asked(), 1);

    // The server is gone. Everything works, and nothing waits.
    drop(web);
    for arguments in [["run"].as_slice(), &["gate", "sf-api.service"], &["check"]] {
        let began = Instant::now();
        let ran = node.agent(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert!(began.elapsed() < Duration::from_secs(10), "{arguments:?}");
    }
    let ran = node.agent(&["explain", "node.name"]);
    assert!(
        ran.stdout
            .contains(&format!("from      {url} (kept copy of 20")),
        "{}",
        ran.stdout
    );

    // A clone of the disk on another machine has to ask.
    let dmi = node.root().join("sys/class/dmi/id");
    std::fs::create_dir_all(&dmi).unwrap();
    std::fs::write(dmi.join("product_uuid"), "another\n").unwrap();
    let ran = node.agent(&["explain", "node.name"]);
    assert!(
        ran.stdout.contains("node.name is not set"),
        "{}",
        ran.stdout
    );
    let asked = format!("{url}: not asked by this command");
    assert!(ran.stderr.contains(&asked), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("this disk is a clone"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_broken_url_stops_the_node_with_a_card() {
    let node = Node::new("hypervisor");
    std::fs::write(
        node.root().join("proc/cmdline"),
        "sf.metadata_url=http://deploy.example.com/n.toml?token=marker-token\n",
    )
    .unwrap();
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let console = node.console();
    assert!(console.contains("SF-FETCH-UNTRUSTED"), "{console}");
    assert!(console.contains("sf.metadata_sha256"), "{console}");
    for text in [
        console,
        ran.stderr,
        node.journal(),
        node.read("run/sf-firstboot/status.json"),
    ] {
        assert!(!text.contains("marker-token"), "{text}");
    }
}

#[test]
fn a_desk_does_not_ask_on_behalf_of_the_node() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let web = Web::start(0, "schema = 1\n");
    let line = format!(
        "sf.metadata_url=http://127.0.0.1:{}/x sf.metadata_sha256={}\n",
        web.port,
        hex::encode(Sha256::digest("schema = 1\n"))
    );
    std::fs::write(node.root().join("proc/cmdline"), line).unwrap();
    let file = node.root().join("node.toml");
    std::fs::write(&file, "schema = 1\nnode.name = \"other.example.com\"\n").unwrap();
    let file = file.to_str().unwrap();
    let ran = node.agent(&["check", "--metadata", file]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    node.agent(&["explain", "--metadata", file]);
    assert_eq!(web.asked(), 0);
    let ran = node.agent(&["check"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(web.asked(), 1);
}
