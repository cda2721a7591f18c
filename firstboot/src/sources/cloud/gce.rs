//! Google Compute Engine's metadata server: the instance attribute
//! `sf-metadata`, else `user-data`. It refuses requests without the header.

use super::{Carrier, Problem, Request, Said, Service, id_of};
use crate::sources::envelope::{self, UserData};

const ATTRIBUTES: [&str; 2] = [
    "/computeMetadata/v1/instance/attributes/sf-metadata",
    "/computeMetadata/v1/instance/attributes/user-data",
];
const INSTANCE: &str = "/computeMetadata/v1/instance/id";

pub(super) async fn ask(service: &mut Service<'_, impl Carrier>) -> Result<Said, Problem> {
    let instance = service.known(get(service, INSTANCE)).await?;
    for path in ATTRIBUTES {
        let document = service.document(&get(service, path)).await?;
        // An attribute that was emptied, rather than removed, hides no other.
        let Some(document) =
            document.filter(|text| !matches!(envelope::user_data(text), Ok(UserData::Empty)))
        else {
            continue;
        };
        return Ok(Said::Document(document, id_of(&instance)));
    }
    Ok(service.nothing("the attributes sf-metadata and user-data"))
}

fn get(service: &Service<'_, impl Carrier>, path: &str) -> Request {
    service.get(path).header("metadata-flavor", "Google")
}
