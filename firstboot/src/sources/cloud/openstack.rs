//! `OpenStack`'s metadata service.

use super::{Carrier, Problem, Said, Service};
use crate::sources::envelope;
use crate::sources::http::Trouble;

const USER_DATA: &str = "/openstack/latest/user_data";
const META_DATA: &str = "/openstack/latest/meta_data.json";

pub(super) async fn ask(service: &mut Service<'_, impl Carrier>) -> Result<Said, Problem> {
    let request = service.get(META_DATA);
    let json = service.known(request.clone()).await?;
    let Some(document) = service.document(&service.get(USER_DATA)).await? else {
        return Ok(service.nothing(USER_DATA));
    };
    let instance = envelope::openstack_instance_id(&json).map_err(|error| {
        let trouble = Trouble::NotHttp(format!("it is not JSON: {error}"));
        service.problem(&trouble, &request)
    })?;
    Ok(Said::Document(document, instance))
}
