//! `[report] url`: the run leaves a letter and waits for nothing; `report`
//! posts it, until it is off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::thread::JoinHandle;

use serde_json::Value;

use super::node::Node;
use super::server::Server;

/// Answers so many requests with that status; gives what was posted.
fn collector(listener: &TcpListener, status: &'static str) -> JoinHandle<(String, Value)> {
    let listener = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(client);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    })
}

#[test]
fn results_are_posted_until_they_are_taken() {
    let server = Server::started();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = Node::new("database-tier");
    node.metadata(
        server.port,
        &format!("[report]\nurl = \"http://127.0.0.1:{port}/sf?token=marker-token-31\"\n"),
    );
    let letter = node.root().join("run/sf-firstboot/report.json");
    let under_way = node.root().join("run/sf-firstboot/report.sending.json");

    // Nobody answers, and the run neither waits nor fails.
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(std::fs::metadata(&letter).unwrap().mode() & 0o777, 0o600);

    // Not now: it is kept, and tried again.
    let busy = collector(&listener, "503 Service Unavailable");
    let ran = node.agent(&["report"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("SF-REPORT-UNSENT"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("marker-token-31"), "{}", ran.stderr);
    busy.join().unwrap();
    assert!(!letter.exists() && under_way.exists());
    let taken = collector(&listener, "204 No Content");
    let ran = node.agent(&["report"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (head, status) = taken.join().unwrap();
    assert!(
        head.starts_with("POST /sf?token=marker-token-31 HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(
        (&status["node"], &status["state"], &status["exit_code"]),
        (&"node5.example.com".into(), &"started".into(), &0.into())
    );
    assert!(!letter.exists() && !under_way.exists());

    // A result that nobody takes is not posted for ever.
    assert_eq!(node.agent(&["run"]).code, 0);
    let refused = collector(&listener, "404 Not Found");
    let ran = node.agent(&["report"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    refused.join().unwrap();
    assert!(!letter.exists() && !under_way.exists());

    // Metadata that is wrong elsewhere still says where to complain; and a
    // newer result takes the place of one that is under way.
    node.edit("wait = \"20s\"", "wait = \"soon\"");
    std::fs::write(&under_way, "{}").unwrap();
    assert_eq!(node.agent(&["run"]).code, 78);
    let taken = collector(&listener, "200 OK");
    assert_eq!(node.agent(&["report"]).code, 0);
    let (_, status) = taken.join().unwrap();
    assert_eq!(status["code"], "SF-META-INVALID");
    assert_eq!(status["state"], "failed");

    // The cluster's own authority is trusted then, too.
    assert!(!letter.exists());
    node.edit(
        "[report]",
        "[pki]\nca = { credential = \"ca.pem\" }\n[report]",
    );
    node.credential("ca.pem", "marker-authority");
    assert_eq!(node.agent(&["run"]).code, 78);
    let waits: Value = serde_json::from_slice(&std::fs::read(&letter).unwrap()).unwrap();
    assert_eq!(waits["to"]["ca"], "marker-authority");
    std::fs::remove_file(&letter).unwrap();
    node.edit("[pki]\nca = { credential = \"ca.pem\" }\n", "");

    // Without a URL nothing is left for anybody.
    node.edit("wait = \"soon\"", "wait = \"20s\"");
    node.edit("[report]", "#");
    node.edit("url = ", "#");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert!(!letter.exists());
    let ran = node.agent(&["report"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("no result to post"), "{}", ran.stderr);
}
