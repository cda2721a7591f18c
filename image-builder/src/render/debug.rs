//! What a debug image has on top: root logs in on every console without a
//! password, and the console says so before anything else.

use crate::tree::{Node, Tree};

const GETTY: &str = "# A debug image (sf-image build --debug): whoever has the console is root.\n[Service]\nExecStart=\n";

/// Puts it in.
pub(super) fn insert(tree: &mut Tree) {
    for (unit, line) in [
        (
            "getty@",
            "ExecStart=-/sbin/agetty --autologin root --noreset --noclear --issue-file=/etc/issue:/etc/issue.d:/run/issue.d - $TERM\n",
        ),
        (
            "serial-getty@",
            "ExecStart=-/sbin/agetty --autologin root --noreset --noclear --keep-baud --issue-file=/etc/issue:/etc/issue.d:/run/issue.d 115200,57600,38400,9600 - $TERM\n",
        ),
    ] {
        let path = format!("usr/lib/systemd/system/{unit}.service.d/50-sf-debug.conf");
        tree.insert(path, Node::text(format!("{GETTY}{line}")));
    }
    tree.insert(
        "etc/issue.d/00-sf-debug.issue",
        Node::text(
            "\n*** DEBUG IMAGE: whoever has this console is root. Not for production. ***\n\n",
        ),
    );
}
