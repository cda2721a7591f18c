//! Azure's instance metadata service. `userData` comes in base64; the older
//! `customData` goes to the provisioning agent and is not for us.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::{Carrier, Problem, Request, Said, Service, id_of};
use crate::sources::http::Trouble;

const USER_DATA: &str = "/metadata/instance/compute/userData?api-version=2021-01-01&format=text";
const INSTANCE: &str = "/metadata/instance/compute/vmId?api-version=2021-01-01&format=text";

pub(super) async fn ask(service: &mut Service<'_, impl Carrier>) -> Result<Said, Problem> {
    let instance = service.known(get(service, INSTANCE)).await?;
    let request = get(service, USER_DATA);
    let encoded = service.document(&request).await?;
    let Some(encoded) = encoded.filter(|encoded| !encoded.trim_ascii().is_empty()) else {
        return Ok(service.nothing("userData"));
    };
    let document =
        decode(&encoded).map_err(|error| service.problem(&Trouble::NotHttp(error), &request))?;
    Ok(Said::Document(document, id_of(&instance)))
}

/// `userData` as the service gives it: base64 with its padding; line breaks do
/// not count.
pub fn decode(encoded: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
        encoded
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect(),
    );
    BASE64_STANDARD
        .decode(digits.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| "userData is not base64".into())
}

fn get(service: &Service<'_, impl Carrier>, path: &str) -> Request {
    Request {
        // 410 while the service itself is being updated.
        not_now: &[410],
        ..service.get(path)
    }
    .header("metadata", "true")
}
