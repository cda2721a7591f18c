//! Whatever is wrong with metadata and wherever it stands: no piece of a secret
//! is in a failure, a card, a frame, an explanation or their JSON.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::card::Card;
use crate::testing::{any_secret, leak, percent_encoded};

/// A TOML string of the secret.
fn quoted(text: &str) -> String {
    let escape = |c: char| format!("\\U{:08X}", u32::from(c));
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// Machines whose metadata holds the secret, rightly or wrongly.
fn machine(secret: &str, which: usize) -> Machine {
    const FILE: &str = "/etc/sf/metadata.toml";
    let value = quoted(secret);
    let dsn = format!("mysql://sf:{}@db1.example.com/sf", percent_encoded(secret));
    let good = GOOD.replace("mysql://sf:S3CR3T@db1.example.com:3306/shakenfist", &dsn);
    let with = |rest: &str| Machine::new().file(FILE, format!("{good}{rest}"));
    let key = "[secrets]\nsystem_key = ";
    match which {
        0 => with(&format!("{key}{value}\n")),
        1 => with(&format!("{key}{value} {value}\n")),
        2 => with(&format!("{key}[{value}]\n[pki]\nkey = {value}\n")),
        3 => with(&format!(
            "X_PASSWORD = {value}\nPROXY = \"http://a:{}@h\"\n",
            percent_encoded(secret)
        )),
        4 => with("").credential("sf.secrets.system_key", secret.repeat(10)),
        5 => with("").credential("sf.database.dsn", format!("mysql:/{dsn}")),
        6 => with("").credential(
            "sf.pki.key",
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"),
        ),
        7 => with("").credential(
            "sf.metadata",
            format!("schema = 1\n{key}{value}\n[x\n{value}\n"),
        ),
        8 => with(&format!("{key}{{ file = \"/run/key\" }}\n")).file("/run/key", secret.repeat(12)),
        _ => with(&format!("{key}{{ credential = \"k\" }}\n"))
            .credential("k", format!("sfk_{secret}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn no_piece_of_a_secret_is_in_what_an_operator_sees(
        secret in any_secret(),
        which in 0_usize..10,
        exposed: bool,
    ) {
        let machine = machine(&secret, which);
        if exposed {
            let everybody = fs::Permissions::from_mode(0o644);
            fs::set_permissions(machine.path("/etc/sf/metadata.toml"), everybody).unwrap();
        }
        let collected = collect(&machine.places());
        let mut shown = format!("{collected:?}");
        for explained in collected.explain(None).unwrap() {
            let _ = write!(shown, "{explained} {}", serde_json::json!(explained));
        }
        let failures = match load(&collected) {
            Ok(loaded) => {
                let _ = write!(shown, "{loaded:?}");
                loaded.warnings
            }
            Err(rejected) => {
                let _ = write!(shown, "{rejected:?} {} {:?}", rejected.frames, rejected.summary());
                rejected.failures.into_iter().chain(rejected.warnings).collect()
            }
        };
        if !failures.is_empty() {
            let card = Card::new(failures);
            // The card breaks lines; a piece may go over the end of one.
            let rendered = card.render("hv1").replace(['\n', ' '], "");
            let _ = write!(shown, "{} {card:?} {} {rendered}", card.errors(), serde_json::json!(card));
        }
        let leaked = leak(&shown, &secret);
        prop_assert!(leaked.is_none(), "{leaked:?} of {secret:?} ({which}) in {shown}");
    }
}
