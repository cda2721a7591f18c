//! The agent's block in `/etc/hosts`: this node and the names that no name
//! server knows. A block rather than an NSS module, because people look there.

use std::fmt::Write as _;
use std::net::IpAddr;

use sf_contract::metadata::node::NodeMetadata;

const BEGIN: &str = "# BEGIN sf-firstboot: made from the node's metadata on every boot";
const END: &str = "# END sf-firstboot";

/// What the file holds where there is none.
pub const DEFAULT: &str = "127.0.0.1 localhost\n";

/// `before` with the block of this metadata in place of the one it had. What
/// stands outside the block is somebody else's and stays, in any encoding.
pub fn render(before: &[u8], metadata: &NodeMetadata) -> Vec<u8> {
    bytes(&with_block(&text(before), metadata))
}

/// `before` without the block.
pub fn outside(before: &[u8]) -> Vec<u8> {
    bytes(&without_block(&text(before)))
}

/// Latin-1 has a character for every byte, and the block is ASCII.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .filter_map(|character| u8::try_from(character).ok())
        .collect()
}

fn with_block(before: &str, metadata: &NodeMetadata) -> String {
    let mut text = without_block(before);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(BEGIN);
    text.push('\n');
    let node = &metadata.node;
    // 127.0.1.1 is Debian's convention for a name without an address of its own.
    let own = node
        .mesh
        .address
        .or(node.egress.address)
        .map_or_else(|| "127.0.1.1".to_owned(), |address| address.to_string());
    push(&mut text, &own, &node.name);
    for (name, address) in &metadata.cluster.hosts {
        if *name != node.name {
            push(&mut text, &address.to_string(), name);
        }
    }
    text.push_str(END);
    text.push('\n');
    text
}

fn push(text: &mut String, address: &str, name: &str) {
    let line = match name.split_once('.') {
        Some((short, _)) => writeln!(text, "{address} {name} {short}"),
        None => writeln!(text, "{address} {name}"),
    };
    // Writing to a String cannot fail.
    debug_assert!(line.is_ok());
}

/// The text outside the block. A block whose end somebody has removed reaches
/// as far as lines follow that look like ours: entries that stayed behind
/// would count for ever, and before those of any name server.
fn without_block(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if line.trim_end() != BEGIN {
            kept.push_str(line);
            continue;
        }
        let ended = lines
            .clone()
            .map(str::trim_end)
            .find(|line| *line == END || *line == BEGIN)
            == Some(END);
        while let Some(line) = lines.next_if(|line| {
            let line = line.trim_end();
            line != BEGIN && (if ended { line != END } else { is_ours(line) })
        }) {
            if !ended {
                tracing::info!(
                    line = line.trim_end(),
                    "removed from the agent's block in /etc/hosts, which has no end"
                );
            }
        }
        let _end = lines.next_if(|line| line.trim_end() == END);
        // What the block is set apart with.
        while lines.next_if(|line| line.trim_end().is_empty()).is_some() {}
    }
    kept
}

/// Does the line look as [`push`] writes it? `10.0.0.1 db1.example.com db1`.
fn is_ours(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let named = match words[1..] {
        [name] => !name.contains('.'),
        [name, short] => name
            .split_once('.')
            .is_some_and(|(first, _)| first == short),
        _ => false,
    };
    named && words[0].parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_block_is_replaced_and_the_rest_stays() {
        let metadata = testing::metadata(
            "[cluster]\nhosts = { \"db1.example.com\" = \"10.0.0.1\", etcd = \"10.0.0.9\" }\n",
        );
        let first = with_block("127.0.0.1 localhost\n10.9.9.9 mine", &metadata);
        assert_eq!(
            first,
            format!(
                "127.0.0.1 localhost\n10.9.9.9 mine\n{BEGIN}\n10.0.0.5 node5.example.com node5\n10.0.0.1 db1.example.com db1\n10.0.0.9 etcd\n{END}\n"
            )
        );
        assert_eq!(with_block(&first, &metadata), first);
        let fewer = with_block(&first, &testing::metadata(""));
        assert!(!fewer.contains("etcd") && fewer.contains("10.9.9.9 mine"));
        let edited = first.replace(END, "");
        assert!(with_block(&edited, &metadata).contains("10.9.9.9 mine"));
    }

    #[test]
    fn a_file_of_another_encoding_keeps_its_bytes() {
        let metadata = testing::metadata("");
        for theirs in [
            &b"10.9.9.9 mine # Z\xfcrich\n"[..],
            "# Zürich à\n".as_bytes(),
        ] {
            let first = render(theirs, &metadata);
            assert!(first.starts_with(theirs));
            assert!(first[theirs.len()..].starts_with(BEGIN.as_bytes()));
            assert_eq!(render(&first, &metadata), first);
        }
    }

    #[test]
    fn a_block_without_an_end_leaves_no_entries_behind() {
        let hosts =
            "[cluster]\nhosts = { \"old.example.com\" = \"10.0.0.7\", etcd = \"10.0.0.9\" }\n";
        let theirs = "# theirs\n10.9.9.9 mine\n10.9.9.8 db.example.com alias\n";
        let now = testing::metadata("");
        let wanted =
            |before: &str| format!("{before}{BEGIN}\n10.0.0.5 node5.example.com node5\n{END}\n");
        let block = with_block("", &testing::metadata(hosts));
        for (before, kept) in [
            (block.replace(END, ""), String::new()),
            (block.replace(&format!("{END}\n"), theirs), theirs.into()),
            (block.replace(END, "# END"), "# END\n".into()),
            // Begun twice, ended once.
            (
                format!("{}{theirs}{block}", block.replace(&format!("{END}\n"), "")),
                theirs.into(),
            ),
            (format!("{theirs}{block}{block}{theirs}"), theirs.repeat(2)),
            // Not at the beginning of a line, it is no block.
            (
                format!("# {BEGIN}\n10.0.0.1 a\n"),
                format!("# {BEGIN}\n10.0.0.1 a\n"),
            ),
        ] {
            assert_eq!(with_block(&before, &now), wanted(&kept), "{before}");
        }
        let alias = block.replace(&format!("{END}\n"), "10.9.9.8 db.example.com alias\n");
        assert!(with_block(&alias, &now).starts_with("10.9.9.8 db.example.com alias\n"));
    }
}
