//! Readers of what a bootstrap leaves, as Shaken Fist itself reads it. Written
//! from the facts of its formats and with nothing of the agent's: other JSON,
//! other bcrypt, other rules for identifiers. Python and the C library do the
//! reading, as they do in the daemons.

use sf_command::{Cmd, Tool};
use sf_contract::secret::Secret;

use super::Admin;

/// The reader. Standard input: the secret of the key, then one line of tab
/// separated cells for each row, the table's name first. `\N` is NULL. Prints
/// one JSON object with what it understood.
const READER: &str = r#"
import base64, json, re, string, subprocess, sys, time, uuid

lines = sys.stdin.read().split("\n")
name, secret = lines[0].split("\t")
now = float(lines[1])
tables = {}
for line in lines[2:]:
    if line:
        cells = [None if c == r"\N" else json.loads(c) for c in line.split("\t")]
        tables.setdefault(cells[0], []).append(cells[1:])

def a_time(text):
    value = float(text)
    assert now - 3600 <= value <= now, f"time {value}, now {now}"
    return value

# cluster_config: loaded into the daemons' environment, over the file's values.
config = {}
for key, value, updated in tables["cluster_config"]:
    assert re.fullmatch("[A-Z][A-Z0-9_]*", key) and not key.startswith("SHAKENFIST_"), key
    a_time(updated)
    config[key] = json.loads(value)
    assert isinstance(config[key], (str, int, float, bool)), key
seed = config.pop("AUTH_SECRET_SEED")
assert isinstance(seed, str) and len(seed) >= 32, "seed"

# namespaces: version 7 rows with their attributes and state.
(namespace, version), = tables["namespaces"]
assert (namespace, int(version)) == ("system", 7)
(owner, keys, trust), = tables["namespace_attributes"]
assert owner == "system"
assert json.loads(keys) == {"nonced_keys": {}}, keys
assert json.loads(trust) == ["system"], trust

# namespace_keys: char(32) hexadecimal, no dashes, unique by namespace and name.
(key_uuid, key_namespace, key_name, key_version), = tables["namespace_keys"]
assert re.fullmatch("[0-9a-f]{32}", key_uuid), key_uuid
parsed = uuid.UUID(hex=key_uuid)
assert parsed.version == 4, parsed
assert (key_namespace, key_name, int(key_version)) == ("system", name, 1)
(attr_uuid, stored, nonce, expiry, scopes, provenance), = tables["namespace_key_attributes"]
assert attr_uuid == key_uuid
assert len(nonce) == 16 and set(nonce) <= set(string.ascii_letters + string.digits), "nonce"
assert expiry is None and scopes is None and provenance is None
hashed = base64.b64decode(stored, validate=True).decode("ascii")
assert re.fullmatch(r"\$2b\$12\$[./A-Za-z0-9]{53}", hashed), "not upstream's bcrypt"
assert len(stored) <= 255

def crypt(candidate):
    # The C library's, through Perl: Python 3.13 has no crypt any more.
    script = "chomp(my $s = <STDIN>); chomp(my $h = <STDIN>); print crypt($s, $h)"
    return subprocess.run(["/usr/bin/perl", "-e", script], input=f"{candidate}\n{hashed}\n",
                          text=True, capture_output=True, check=True).stdout
assert crypt(secret) == hashed, "the secret does not open the key"
assert crypt(secret + "x") != hashed, "any secret opens the key"

# object_states: dashed identifiers, or a namespace's name; enum member names.
states = {}
for kind, ident, state, updated, message in tables["object_states"]:
    assert kind in ("NAMESPACE", "NAMESPACE_KEY"), kind
    assert len(ident) <= 36 or kind == "NAMESPACE"
    a_time(updated)
    states[kind, ident] = state
assert states == {("NAMESPACE", "system"): "created",
                  ("NAMESPACE_KEY", str(parsed)): "created"}, states

# schema_versions: there only when the release's own command made the tables.
schema = {t: int(v) for t, v, updated in tables.get("schema_versions", [])}
print(json.dumps({"config": config, "seed": seed, "schema": schema}))
"#;

const TABLES: [(&str, &str); 7] = [
    ("cluster_config", "key_name, value_json, updated_at"),
    ("namespaces", "name, version"),
    ("namespace_attributes", "name, `keys`, trust"),
    ("namespace_keys", "uuid, namespace, name, version"),
    (
        "namespace_key_attributes",
        "uuid, `key`, nonce, expiry, scopes, provenance",
    ),
    (
        "object_states",
        "object_type, object_uuid, state_value, update_time, message",
    ),
    ("schema_versions", "table_name, version, updated_at"),
];

/// What the reader understood.
#[derive(Debug)]
pub(crate) struct Read {
    /// Cluster-wide settings, without the seed.
    pub(crate) config: serde_json::Value,
    /// What signs API tokens.
    pub(crate) seed: String,
    /// Version of each table, by the command that makes them.
    pub(crate) schema: serde_json::Value,
}

/// Reads a database as Shaken Fist does. Panics with the reader's complaint.
pub(crate) fn read(admin: &mut Admin, database: &str, key: &str, secret: &Secret) -> Read {
    let now = admin.cell("SELECT UNIX_TIMESTAMP(SYSDATE(6))");
    let mut input = format!("{key}\t{}\n{now}\n", secret.expose());
    for (table, columns) in TABLES {
        let there = admin.cell(&format!(
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_schema = '{database}' AND table_name = '{table}'"
        ));
        if there == "0" {
            continue;
        }
        // JSON_QUOTE, so that the cells need no other escaping.
        let cells: Vec<String> = columns
            .split(", ")
            .map(|column| {
                format!(
                    "IF({column} IS NULL, '\\\\N', JSON_QUOTE(CONVERT({column} USING utf8mb4)))"
                )
            })
            .collect();
        for row in admin.rows(&format!(
            "SELECT {} FROM `{database}`.`{table}`",
            cells.join(", ")
        )) {
            input.extend(["\"", table, "\"\t", &row.join("\t"), "\n"]);
        }
    }
    let printed = Cmd::new(Tool::Python3)
        .args(["-c", READER])
        .stdin(input)
        .run()
        .unwrap_or_else(|error| panic!("the reader of {database}: {error}"))
        .text();
    let mut read: serde_json::Value = serde_json::from_str(&printed).unwrap();
    Read {
        seed: read["seed"].as_str().unwrap().to_owned(),
        config: read["config"].take(),
        schema: read["schema"].take(),
    }
}
