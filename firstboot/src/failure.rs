//! A failure as an operator meets it: a stable code, what failed, the value
//! and where it came from, why it matters, what to do. Every module of the
//! agent returns this; the card, the status and the log show it.

use serde::{Serialize, Serializer};
use sf_contract::failure::Kind;
use sf_contract::secret::mask_urls;

use crate::codes::Code;

/// One failure. Texts hold no secrets: whatever came from a driver or a
/// program goes through [`Failure::cause`], which masks URLs.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Stable code with its kind and its standing explanation.
    pub code: &'static Code,
    /// What failed, this time: names the host, file or field.
    pub what: String,
    /// The value in question, redacted by whoever puts it here.
    pub value: Option<String>,
    /// Where the value came from: `credential sf.metadata`, `/etc/sf/metadata.toml:12`.
    pub source: Option<String>,
    /// What to do this time, where it says more than the code's own remedy.
    pub remedy: Option<String>,
    /// Command that shows more or tries again.
    pub next_command: Option<String>,
    /// Underlying reasons, outermost first.
    pub causes: Vec<String>,
}

/// With the code's own remedy where there is no better one: whoever shows the
/// JSON has no list of codes at hand.
impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'f> {
            #[serde(flatten)]
            code: &'static Code,
            what: &'f str,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: &'f Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: &'f Option<String>,
            remedy: &'f str,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_command: &'f Option<String>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            causes: &'f [String],
        }
        Shown {
            code: self.code,
            what: &self.what,
            value: &self.value,
            source: &self.source,
            remedy: self.remedy_text(),
            next_command: &self.next_command,
            causes: &self.causes,
        }
        .serialize(serializer)
    }
}

impl Failure {
    /// A failure with a code.
    pub fn new(code: &'static Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            value: None,
            source: None,
            remedy: None,
            next_command: None,
            causes: Vec::new(),
        }
    }

    /// The value in question; the caller has redacted it.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(mask_urls(&value.into()));
        self
    }

    /// Where the value came from.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A remedy more exact than the code's.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The command that shows more.
    #[must_use]
    pub fn next_command(mut self, command: impl Into<String>) -> Self {
        self.next_command = Some(command.into());
        self
    }

    /// Adds an underlying error and what it was caused by.
    #[must_use]
    pub fn cause(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = mask_urls(&error.to_string());
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds an underlying reason in words; the caller has redacted it.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.causes.push(reason.into());
        self
    }

    /// Who must act.
    pub fn kind(&self) -> Kind {
        self.code.kind
    }

    /// The remedy to show: this failure's own, else the code's.
    pub fn remedy_text(&self) -> &str {
        self.remedy.as_deref().unwrap_or(self.code.remedy)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.code.id, self.what)?;
        for cause in &self.causes {
            write!(formatter, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::card::Card;
    use crate::codes;
    use crate::testing::{any_secret, leak, percent_encoded};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever library or program wrote them, passwords in URLs come out nowhere.
        #[test]
        fn no_piece_of_a_password_in_an_error_is_shown(secret in any_secret(), which in 0..4) {
            let password = percent_encoded(&secret);
            let text = match which {
                0 => format!("no route to mysql://sf:{password}@db1,db2:3306/sf"),
                1 => format!("GET https://h/node.toml?mail=a@b&token={password}: 404"),
                2 => format!("https://u:{password}@h/x?mail=a@b&api_key={password}#sig={password}"),
                _ => format!("'sf:{password}@db1' is no address"),
            };
            let error = std::io::Error::other(std::io::Error::other(text.clone()));
            let failure = Failure::new(&codes::DB_LOST, "x").value(text).cause(&error);
            let card = Card::new(vec![failure.clone()]);
            // The card breaks lines; a piece may go over the end of one.
            let rendered = card.render("hv1").replace(['\n', ' '], "");
            let shown = format!(
                "{failure} {failure:?} {} {rendered} {} {}",
                serde_json::json!(failure),
                card.errors(),
                serde_json::json!(card)
            );
            let leaked = leak(&shown, &secret);
            prop_assert!(leaked.is_none(), "{leaked:?} of {secret:?} ({which}) in {shown}");
        }
    }
}
