//! Requirements files with hashes, as `pip --require-hashes` reads them.
//!
//! Owns: which packages one names, and leaving some out. Refuses: resolving
//! anything.

/// One pinned package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in normal form (PEP 503): lower case, with dashes.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// Its lines, hashes and comments included.
    text: String,
}

/// The packages that `lock` pins, in order. Lines that pin nothing (options,
/// comments before the first package) are dropped.
pub fn entries(lock: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in lock.lines() {
        let pin = line
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        match line.split_once("==").filter(|_| pin) {
            Some((name, rest)) => {
                let version = rest.split([' ', ';', '\\']).next().unwrap_or_default();
                let name = name.split('[').next().unwrap_or_default();
                entries.push(Entry {
                    name: normal(name),
                    version: version.to_owned(),
                    text: format!("{line}\n"),
                });
            }
            None => {
                if let Some(entry) = entries.last_mut() {
                    entry.text.push_str(line);
                    entry.text.push('\n');
                }
            }
        }
    }
    entries
}

/// `lock` without the packages in `skip`.
pub fn without(lock: &str, skip: &[String]) -> String {
    let skipped: Vec<String> = skip.iter().map(|name| normal(name)).collect();
    let mut kept = String::new();
    for entry in entries(lock)
        .iter()
        .filter(|entry| !skipped.contains(&entry.name))
    {
        kept.push_str(&entry.text);
    }
    kept
}

/// A project's name in normal form.
pub fn normal(name: &str) -> String {
    let mut out = String::new();
    for c in name.trim().chars() {
        let c = if matches!(c, '_' | '.') {
            '-'
        } else {
            c.to_ascii_lowercase()
        };
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "# made by a tool\n--index-url https://x.example\n\
        Flask_RESTful==0.3.10 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x==1\n\
        netifaces==0.11.0 \\\n    --hash=sha256:cc\n\
        pkg[extra]==2.0; python_version > '3' \\\n    --hash=sha256:dd\n";

    #[test]
    fn reads_names_and_versions() {
        let found: Vec<_> = entries(LOCK)
            .into_iter()
            .map(|e| (e.name, e.version))
            .collect();
        let want = [
            ("flask-restful", "0.3.10"),
            ("netifaces", "0.11.0"),
            ("pkg", "2.0"),
        ];
        assert_eq!(found, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn leaves_out_whole_entries() {
        let left = without(LOCK, &["Netifaces".to_owned(), "absent".to_owned()]);
        assert!(
            !left.contains("netifaces") && !left.contains("cc"),
            "{left}"
        );
        assert!(
            left.contains("--hash=sha256:bb") && left.contains("--hash=sha256:dd"),
            "{left}"
        );
    }

    #[test]
    fn normal_names() {
        for (name, want) in [("A_b.c", "a-b-c"), ("x--y", "x-y"), ("plain", "plain")] {
            assert_eq!(normal(name), want);
        }
    }
}
