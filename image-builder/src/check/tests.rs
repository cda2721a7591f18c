use super::*;
use crate::checkout::Text;
use crate::tree::{Node, Tree};

const RELEASE: &str = r#"
schema = 1
summary = "R"
version = "0.7.2"
series = "0.7"
[base]
distribution = "debian"
release = "trixie"
glibc = "2.41"
python = "3.13"
[python]
install = "hash-lock"
lock = "requirements.lock"
prefix = "/usr/lib/shakenfist"
[[daemon]]
unit = "sf-daemon"
description = "D"
exec = "/x"
provides = ["api", "net"]
[schema_of_the_cluster]
made_by = "agent"
"#;

/// A checkout in memory: a release that is right, and these profiles.
fn checkout(profiles: &[(&str, &str)], release: &str) -> Checkout {
    let mut statics = Tree::default();
    statics.insert(
        "mkosi.conf.d/10.conf",
        Node::text("[Distribution]\nDistribution=debian\nRelease=trixie\n"),
    );
    statics.insert("mkosi.extra/usr/lib/x.conf", Node::text("x"));
    let mut files = Tree::default();
    files.insert(
        "requirements.lock",
        Node::text("shakenfist==0.7.2 \\\n    --hash=sha256:0\n"),
    );
    files.insert("extra/usr/lib/y.conf", Node::text("y"));
    let descriptor = Text {
        source: "releases/0.7/release.toml".into(),
        text: release.to_owned(),
    };
    Checkout {
        root: "/checkout".into(),
        profiles: profiles
            .iter()
            .map(|(name, text)| {
                let text = format!("schema = 1\nsummary = \"{name}\"\n{text}");
                (
                    (*name).to_owned(),
                    Text {
                        source: format!("profiles/{name}.toml"),
                        text,
                    },
                )
            })
            .collect(),
        profile_files: BTreeMap::new(),
        releases: BTreeMap::from([("0.7".to_owned(), ReleaseFolder { descriptor, files })]),
        statics,
    }
}

fn shown(checkout: &Checkout) -> String {
    let problems = check(checkout).problems;
    problems
        .iter()
        .map(|problem| problem.to_string() + "\n")
        .collect()
}

#[test]
fn a_right_checkout_has_no_problem() {
    let profiles = [
        ("base", "daemons = [\"api\"]\n"),
        ("node", "extends = \"base\"\nrole = \"network\"\n"),
    ];
    let checked = check(&checkout(&profiles, RELEASE));
    assert_eq!(checked.problems, []);
    assert_eq!(checked.resolved.keys().collect::<Vec<_>>(), ["node"]);
    assert_eq!(checked.resolved["node"].daemons, ["api"]);
}

/// Everything in one run: five profiles and a release, each wrong in its way.
#[test]
fn all_documents_are_judged_in_one_run() {
    let profiles = [
        ("a", "extends = \"b\"\n"),
        ("b", "extends = \"a\"\n"),
        (
            "base",
            "role = \"network\"\ndaemons = [\"apy\", \"gpu-scheduler\"]\npackages = [\"rsyslog\"]\n",
        ),
        (
            "child",
            "extends = \"base\"\ncolour = 1\n[[file]]\npath = \"/usr/lib/x.conf\"\ncontent = \"\"\n[[file]]\npath = \"/usr/lib/y.conf\"\ncontent = \"\"\n",
        ),
        (
            "lost",
            "extends = \"bsae\"\n[[file]]\npath = \"/usr/lib/sf-image/manifest.json\"\ncontent = \"\"\n",
        ),
        ("broken", "role = \n"),
    ];
    let release = RELEASE
        .replace("version = \"0.7.2\"", "version = \"0.7.3\"")
        .replace("release = \"trixie\"", "release = \"bookworm\"")
        .replace(
            "[[daemon]]",
            "[[python.shim]]\npath = \"nope\"\nreason = \"r\"\n[[daemon]]",
        );
    insta::assert_snapshot!(shown(&checkout(&profiles, &release)), @r#"
    profiles/a.toml: extends: profiles extend each other in a circle: a -> b -> a (one of them must not extend the next)
    profiles/base.toml: daemons: release 0.7 has no daemon "apy" (did you mean "api"?)
    profiles/base.toml: daemons: release 0.7 has no daemon "gpu-scheduler" (it has api, net)
    profiles/base.toml: packages: "rsyslog" is a log shipper, which no product image carries (infrastructure is the operator's: an image deploys Shaken Fist and nothing else)
    profiles/broken.toml: not valid TOML: string values must be quoted, expected literal string
    profiles/child.toml: unknown key "colour" (known keys here: daemons, extends, file, kernel_command_line, kernel_modules, outputs, packages, remove_files, role, schema, set_uid, size_budgets, summary, sysctl)
    profiles/child.toml: file.path: /usr/lib/x.conf comes from mkosi.extra/usr/lib/x.conf already (change it there, or name another path, such as a drop-in)
    profiles/child.toml: file.path: /usr/lib/y.conf comes from releases/0.7/extra/usr/lib/y.conf already (change it there, or name another path, such as a drop-in)
    profiles/lost.toml: extends: there is no profile "bsae" (did you mean "base"?)
    profiles/lost.toml: file.path: /usr/lib/sf-image/manifest.json comes from the builder already (change it there, or name another path, such as a drop-in)
    releases/0.7/release.toml: base: the release is for debian bookworm, mkosi.conf.d/ builds debian trixie
    releases/0.7/release.toml: python.lock: requirements.lock does not pin shakenfist at the version of this file
    releases/0.7/release.toml: python.shim: there is no folder releases/0.7/nope
    "#);
}

#[test]
fn problems_are_shown_as_source_frames_with_a_count() {
    let checkout = checkout(
        &[("base", "role = \"netwrok\"\n"), ("x", "[sysctl\n")],
        RELEASE,
    );
    insta::assert_snapshot!(report(&check(&checkout).problems, &checkout), @r#"
    error: "netwrok" is not a role; roles are hypervisor, network, database-tier and single-node
     --> profiles/base.toml:3:8
      |
    3 | role = "netwrok"
      |        ^^^^^^^^^

    error: not valid TOML: unclosed table, expected `]`
     --> profiles/x.toml:3:8
      |
    3 | [sysctl
      |        ^

    2 problems in 2 files
    "#);
}

#[test]
fn a_daemon_that_another_release_has_needs_a_reason() {
    let mut checkout = checkout(
        &[("node", "role = \"network\"\ndaemons = [\"api\", \"net\"]\n")],
        RELEASE,
    );
    let text = RELEASE.replace("provides = [\"api\", \"net\"]", "provides = [\"api\"]");
    let descriptor = Text {
        source: "releases/next/release.toml".into(),
        text: text.clone(),
    };
    let files = checkout.releases["0.7"].files.clone();
    checkout
        .releases
        .insert("next".into(), ReleaseFolder { descriptor, files });
    assert_eq!(
        shown(&checkout),
        "profiles/node.toml: daemons: release next has no daemon \"net\" \
         (if that is meant, say why under [absent_daemons] in releases/next/release.toml)\n"
    );
    let said = text.replace("[base]", "[absent_daemons]\nnet = \"merged\"\n[base]");
    if let Some(folder) = checkout.releases.get_mut("next") {
        folder.descriptor.text = said;
    }
    assert_eq!(shown(&checkout), "");
}

#[test]
fn an_example_that_is_no_product_may_have_infrastructure() {
    let profiles = [(
        "all",
        "role = \"single-node\"\npackages = [\"mariadb-server\"]\n",
    )];
    assert_eq!(shown(&checkout(&profiles, RELEASE)), "");
}

/// The documents that are in this repository.
#[test]
fn the_checkout_itself_is_right() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("root");
    let checkout = Checkout::load(root).expect("load");
    let checked = check(&checkout);
    assert!(
        checked.problems.is_empty(),
        "{}",
        report(&checked.problems, &checkout)
    );
    for name in ["hypervisor", "network", "database-tier"] {
        assert_eq!(checked.resolved[name].role.name(), name);
        assert!(checked.resolved[name].is_product());
    }
    assert_eq!(
        checked.releases.keys().collect::<Vec<_>>(),
        ["0.7", "develop"]
    );
}
