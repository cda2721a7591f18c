//! Everything that is wrong with one set of authority, certificate and key.

use webpki::Error as Chain;

use super::chain::{self, Own};
use super::facts::{Certificate, DAY, day};
use crate::codes::{self, Code};
use crate::failure::Failure;

/// One value of the metadata.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// `pki.key`.
    pub field: &'a str,
    /// Where its value came from, for people.
    pub source: &'a str,
    /// The file that it was read from, if it was one.
    pub file: Option<&'a str>,
    /// The value; may be a private key.
    pub bytes: &'a [u8],
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The node's own: it serves other nodes and calls them.
    Node,
    /// A server alone, whose clients may be told its subject instead of a name.
    Console,
}

/// What belongs together.
pub struct Set<'a> {
    /// The authority's certificates.
    pub ca: Option<Item<'a>>,
    /// The certificate with its chain.
    pub certificate: Option<Item<'a>>,
    /// Its private key.
    pub key: Option<Item<'a>>,
    /// What it is for.
    pub usage: Usage,
    /// Names and addresses by which others call this node: a [`Usage::Node`]
    /// needs the first one, a [`Usage::Console`] any of them.
    pub names: &'a [String],
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What cannot work.
    pub findings: Vec<Failure>,
    /// What works today.
    pub warnings: Vec<Failure>,
    /// The leaf, when it could be read.
    pub leaf: Option<Certificate>,
}

/// Judges a set at `now`, in seconds since 1970. `built` is when the image was
/// made: an earlier `now` means that the clock is wrong, not the certificate.
pub fn judge(set: &Set<'_>, now: i64, built: Option<i64>) -> Verdict {
    let mut court = Court {
        verdict: Verdict::default(),
        now,
        built,
        holds: false,
        spare: Vec::new(),
    };
    let authorities = set.ca.map(|item| (court.certificates(&item), item));
    let key = set.key.and_then(|item| court.private(&item));
    let chain = set
        .certificate
        .map(|item| (court.certificates(&item), item));
    let trusted = authorities
        .as_ref()
        .map_or(&[][..], |(all, _)| all.as_slice());
    let own = chain
        .as_ref()
        .and_then(|(chain, item)| Some((Own::of(chain, key.as_deref())?, item)));
    let holds = |at| match &own {
        Some((own, _)) => chain::holds(own, trusted, set.usage == Usage::Node, at),
        None => trusted.iter().any(|one| one.valid(at)),
    };
    court.holds = holds(now);
    let every = trusted
        .iter()
        .chain(own.iter().flat_map(|(own, _)| own.all()));
    court.spare = every
        .filter(|one| one.ends_soon(now) && holds(one.not_after + 1))
        .map(|one| one.der.clone())
        .collect();
    if let Some((all, item)) = &authorities {
        court.authorities(item, all);
    }
    if let Some((own, item)) = &own {
        court.leaf(set, item, own, key.as_deref(), trusted);
    }
    court.verdict
}

/// Collects findings.
pub(super) struct Court {
    pub(super) verdict: Verdict,
    now: i64,
    built: Option<i64>,
    /// Does the chain hold without anything that is not valid today? Then what
    /// has expired is only in the way: a bundle keeps an old root beside the
    /// new one, a chain ends in a cross-signature that is over.
    holds: bool,
    /// Which of those that end soon will not be missed.
    spare: Vec<Vec<u8>>,
}

impl Court {
    pub(super) fn find(&mut self, failure: Failure) {
        self.verdict.findings.push(failure);
    }

    fn authorities(&mut self, item: &Item<'_>, all: &[Certificate]) {
        for one in all {
            let problem = if !one.version_3 {
                // Roots of the nineties have no extensions, and are trusted as they are.
                None
            } else if !one.authority {
                Some("is no authority: its basic constraints do not say CA:TRUE")
            } else if one.signs_certificates == Some(false) {
                Some("may not sign certificates: its key usage lacks keyCertSign")
            } else {
                None
            };
            if let Some(problem) = problem {
                self.find(
                    about(
                        &codes::PKI_USAGE,
                        item,
                        one,
                        format!("{} {problem}", one.subject),
                    )
                    .remedy(format!(
                        "Give the certificate of the authority that signed the node's \
                             certificates in {}, not one of its own.",
                        item.field
                    )),
                );
            }
            self.dates(item, one, !self.holds);
        }
    }

    fn leaf(
        &mut self,
        set: &Set<'_>,
        item: &Item<'_>,
        own: &Own<'_>,
        key: Option<&[u8]>,
        authorities: &[Certificate],
    ) {
        let leaf = own.leaf;
        if let Some(first) = own.all().next().filter(|_| own.position > 0) {
            self.find(
                about(
                    &codes::PKI_ORDER,
                    item,
                    first,
                    format!(
                        "the chain is in the wrong order: {} comes first, and the node's own \
                         certificate, {}, only at position {}",
                        first.subject,
                        leaf.subject,
                        own.position + 1
                    ),
                )
                .remedy("Put the node's own certificate first, then each one that signed the one before: cat node.pem intermediate.pem"),
            );
        }
        for one in own.all() {
            self.dates(item, one, !self.holds || one.der == leaf.der);
        }
        self.usage(set, item, leaf);
        // One of version 1 has no names, which is what is said of it.
        let readable = chain::readable(leaf).is_ok() || !leaf.version_3;
        if readable {
            self.names(set, item, leaf);
        }
        if let (Some(public), Some(key_item)) = (key, &set.key)
            && public != leaf.public_key
        {
            self.find(
                about(
                    &codes::PKI_KEY_MISMATCH,
                    key_item,
                    leaf,
                    format!(
                        "the key is not that of the certificate {} in {}",
                        leaf.subject, item.field
                    ),
                )
                .remedy(format!(
                    "Give the key that the certificate was requested with; both of these must \
                     print the same: openssl pkey -pubout -in {}; openssl x509 -noout -pubkey -in {}",
                    key_item.file.unwrap_or("KEY"),
                    item.file.unwrap_or("CERTIFICATE")
                )),
            );
        }
        match &set.ca {
            Some(ca) if !authorities.is_empty() => self.chain(set, item, ca, own, authorities),
            _ => {
                if let Err(error) = chain::readable(leaf)
                    && !readable
                {
                    self.broken(item, None, own, &[], &error);
                }
            }
        }
        self.verdict.leaf = Some(leaf.clone());
    }

    fn dates(&mut self, item: &Item<'_>, one: &Certificate, needed: bool) {
        let (now, subject) = (self.now, &one.subject);
        if !one.valid(now) && !needed {
            let (code, what) = if now < one.not_before {
                (
                    &codes::PKI_NOT_YET_VALID,
                    format!("{subject} is valid only from {} on", day(one.not_before)),
                )
            } else {
                (
                    &codes::PKI_EXPIRED,
                    format!("{subject} expired on {}", day(one.not_after)),
                )
            };
            self.verdict.warnings.push(
                about(
                    code,
                    item,
                    one,
                    format!("{what}; nothing here depends on it"),
                )
                .remedy(format!(
                    "Take it out of {} when no peer needs it: some programs stop at it.",
                    item.field
                )),
            );
        } else if now < one.not_before {
            let clock = match self.built {
                Some(built) if now < built => format!(
                    "This node's clock says {}, and its image was made on {}: the certificate may \
                     be well. {}",
                    day(now),
                    day(built),
                    codes::CLOCK_WRONG.remedy
                ),
                _ => format!(
                    "This node's clock says {}. If that is right, look at the clock of the machine \
                     that made the certificate. {}",
                    day(now),
                    codes::CLOCK_WRONG
                        .remedy
                        .replacen("Set it", "If not, set it", 1)
                ),
            };
            self.find(
                about(
                    &codes::PKI_NOT_YET_VALID,
                    item,
                    one,
                    format!("{subject} is valid only from {} on", day(one.not_before)),
                )
                .remedy(clock)
                .next_command("timedatectl status"),
            );
        } else if now > one.not_after {
            self.find(
                about(
                    &codes::PKI_EXPIRED,
                    item,
                    one,
                    format!(
                        "{subject} expired on {}, {} ago",
                        day(one.not_after),
                        days((now - one.not_after) / DAY)
                    ),
                )
                .remedy(format!("Renew it, put the new one in {}, and restart the agent: systemctl restart sf-firstboot.", item.field)),
            );
        } else if one.ends_soon(now) {
            self.verdict.warnings.push(
                about(
                    &codes::PKI_EXPIRING,
                    item,
                    one,
                    format!(
                        "{subject} expires on {}: {} left",
                        day(one.not_after),
                        days_until(one.not_after, now)
                    ),
                )
                .remedy(if self.spare.contains(&one.der) {
                    "Nothing here depends on it: take it out when no peer needs it."
                } else {
                    "Renew it before that day: a node that boots after it stops with SF-PKI-EXPIRED."
                }),
            );
        }
    }

    fn usage(&mut self, set: &Set<'_>, item: &Item<'_>, leaf: &Certificate) {
        let mut wrong = |what: String| {
            self.verdict.findings.push(
                about(&codes::PKI_USAGE, item, leaf, what).remedy(match set.usage {
                    Usage::Node => "Have it issued with basicConstraints = CA:FALSE, keyUsage = digitalSignature, extendedKeyUsage = serverAuth, clientAuth: the node serves other nodes and calls them.",
                    Usage::Console => "Have it issued with basicConstraints = CA:FALSE, keyUsage = digitalSignature, extendedKeyUsage = serverAuth.",
                }),
            );
        };
        if leaf.authority {
            wrong(format!(
                "{} is an authority's certificate (CA:TRUE), not a node's",
                leaf.subject
            ));
        }
        if leaf.signs == Some(false) {
            wrong(format!(
                "{} may not sign handshakes: its key usage lacks digitalSignature",
                leaf.subject
            ));
        }
        if let Some((server, client)) = leaf.extended {
            let lacking = match (set.usage, server, client) {
                (_, true, true) | (Usage::Console, true, _) => None,
                (Usage::Console, false, _) | (Usage::Node, false, true) => Some("serverAuth"),
                (Usage::Node, true, false) => Some("clientAuth"),
                (Usage::Node, false, false) => Some("serverAuth and clientAuth"),
            };
            if let Some(lacking) = lacking {
                wrong(format!(
                    "the extended key usage of {} lacks {lacking}",
                    leaf.subject
                ));
            }
        }
    }

    fn names(&mut self, set: &Set<'_>, item: &Item<'_>, leaf: &Certificate) {
        let covers = |name: &String| chain::names(leaf, name);
        let enough = match set.usage {
            Usage::Node => set.names.first().is_none_or(covers),
            Usage::Console => set.names.is_empty() || set.names.iter().any(covers),
        };
        if enough {
            return;
        }
        let wanted = match set.usage {
            Usage::Node => set.names.first().cloned().unwrap_or_default(),
            Usage::Console => set.names.join(" or "),
        };
        let carries = if leaf.names.is_empty() {
            match leaf.common_name() {
                Some(name) => format!(
                    "it carries no names at all: the common name {name} has not counted since RFC 6125, only subjectAltName does"
                ),
                None => "it carries no names at all".to_owned(),
            }
        } else {
            format!("it is for {}", leaf.names.join(", "))
        };
        let failure = about(
            &codes::PKI_NAME,
            item,
            leaf,
            format!("{} is not for {wanted}: {carries}", leaf.subject),
        );
        // No more than what the rule above asks for.
        let asked = match set.usage {
            Usage::Node => set.names.get(..1).unwrap_or_default(),
            Usage::Console => set.names,
        };
        let extension: Vec<String> = asked
            .iter()
            .map(|name| match name.parse::<std::net::IpAddr>() {
                Ok(_) => format!("IP:{name}"),
                Err(_) => format!("DNS:{name}"),
            })
            .collect();
        let failure = failure.remedy(format!(
            "Have it issued with subjectAltName = {}, or correct node.name.",
            extension.join(", ")
        ));
        match set.usage {
            Usage::Node => self.find(failure),
            // Clients that are given the subject (host-subject) look at no name.
            Usage::Console => self.verdict.warnings.push(failure),
        }
    }

    fn chain(
        &mut self,
        set: &Set<'_>,
        item: &Item<'_>,
        ca: &Item<'_>,
        own: &Own<'_>,
        authorities: &[Certificate],
    ) {
        if self.holds {
            return;
        }
        let authorities: Vec<&Certificate> = authorities.iter().collect();
        let Err(error) = chain::verify(
            own.leaf,
            &own.between,
            &authorities,
            set.usage == Usage::Node,
            self.now,
        ) else {
            return;
        };
        // Dates are said one by one, and usages by `usage`.
        let said = match error {
            Chain::CertExpired { .. } | Chain::CertNotValidYet { .. } => true,
            Chain::CaUsedAsEndEntity | Chain::RequiredEkuNotFoundContext(_) => {
                !self.verdict.findings.is_empty()
            }
            _ => false,
        };
        if !said {
            self.broken(item, Some(ca), own, &authorities, &error);
        }
    }

    fn broken(
        &mut self,
        item: &Item<'_>,
        ca: Option<&Item<'_>>,
        own: &Own<'_>,
        authorities: &[&Certificate],
        error: &Chain,
    ) {
        let field = ca.map_or("the authorities", |ca| ca.field);
        let reason = chain::explain(error, own.leaf, &own.between, authorities, field);
        let remedy = reason.remedy.map_or_else(
            || {
                format!(
                    "Put the intermediate certificates behind the node's own in {}, and the authority \
                     that signed the last of them in {field}.",
                    item.field
                )
            },
            str::to_owned,
        );
        let mut failure = about(&codes::PKI_CHAIN, item, own.leaf, reason.what)
            .remedy(remedy)
            .next_command(format!(
                "openssl verify -CAfile {} -untrusted {1} {1}",
                ca.and_then(|ca| ca.file).unwrap_or("CA"),
                item.file.unwrap_or("CERTIFICATE")
            ));
        failure.causes.extend(reason.cause);
        self.find(failure);
    }
}

pub(super) fn failure(code: &'static Code, item: &Item<'_>, what: impl AsRef<str>) -> Failure {
    Failure::new(code, format!("{}: {}", item.field, what.as_ref()))
        .source(item.source)
        .next_command(format!("sf-firstboot explain {}", item.field))
}

/// A finding about one certificate, which is shown.
fn about(
    code: &'static Code,
    item: &Item<'_>,
    certificate: &Certificate,
    what: impl AsRef<str>,
) -> Failure {
    failure(code, item, what).value(certificate.to_string())
}

/// How long it is until then, in days.
pub fn days_until(then: i64, now: i64) -> String {
    days((then - now) / DAY)
}

fn days(count: i64) -> String {
    match count {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        more => format!("{more} days"),
    }
}
