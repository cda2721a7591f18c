//! The agent's block in `/etc/hosts`: this node and the names that no name
//! server knows. A block rather than an NSS module, because people look there.

use std::fmt::Write as _;

use sf_contract::metadata::node::NodeMetadata;

const BEGIN: &str = "# BEGIN sf-firstboot: made from the node's metadata on every boot";
const END: &str = "# END sf-firstboot";

/// What the file holds where there is none.
pub const DEFAULT: &str = "127.0.0.1 localhost\n";

/// `before` with the block of this metadata in place of the one it had. What
/// stands outside the block is somebody else's and stays.
pub fn render(before: &str, metadata: &NodeMetadata) -> String {
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

/// The text outside the block. A block without an end reaches to its last
/// line that looks like ours, so that an edited file loses nothing.
fn without_block(text: &str) -> String {
    let Some(begin) = text.find(BEGIN) else {
        return text.to_owned();
    };
    let rest = &text[begin..];
    let after = match rest.find(END) {
        Some(end) => rest[end + END.len()..].trim_start_matches('\n'),
        None => rest[BEGIN.len()..].trim_start_matches('\n'),
    };
    format!("{}{after}", &text[..begin])
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
        let first = render("127.0.0.1 localhost\n10.9.9.9 mine", &metadata);
        assert_eq!(
            first,
            format!(
                "127.0.0.1 localhost\n10.9.9.9 mine\n{BEGIN}\n10.0.0.5 node5.example.com node5\n10.0.0.1 db1.example.com db1\n10.0.0.9 etcd\n{END}\n"
            )
        );
        assert_eq!(render(&first, &metadata), first);
        let fewer = render(&first, &testing::metadata(""));
        assert!(!fewer.contains("etcd") && fewer.contains("10.9.9.9 mine"));
        let edited = first.replace(END, "");
        assert!(render(&edited, &metadata).contains("10.9.9.9 mine"));
    }
}
