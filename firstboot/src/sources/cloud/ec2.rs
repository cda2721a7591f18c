//! EC2's instance metadata service, version 2: a token first, then everything
//! with it. Version 1, which hands out user data to any request that a process
//! on the node can be tricked into, is never used.

use hyper::Method;
use sf_contract::secret::Secret;

use super::{Carrier, Problem, Request, SWITCH_OFF, Said, Service};
use crate::sources::http::Trouble;

const TOKEN: &str = "/latest/api/token";
const USER_DATA: &str = "/latest/user-data";
const INSTANCE: &str = "/latest/meta-data/instance-id";
/// A token is only needed for this conversation.
const LIFETIME: &str = "300";

pub(super) async fn ask(service: &mut Service<'_, impl Carrier>) -> Result<Said, Problem> {
    let mut token = token(service).await?;
    let mut request = with_token(service, USER_DATA, &token);
    let mut answer = service.send(&request).await?;
    if answer.status == 401 {
        // It expired, or the service was restarted: once more.
        token = self::token(service).await?;
        request = with_token(service, USER_DATA, &token);
        answer = service.send(&request).await?;
    }
    let document = answer
        .document()
        .map_err(|trouble| service.problem(&trouble, &request))?;
    let Some(document) = document else {
        return Ok(service.nothing(USER_DATA));
    };
    let instance = service
        .instance(with_token(service, INSTANCE, &token))
        .await;
    Ok(Said::Document(document, instance))
}

async fn token(service: &mut Service<'_, impl Carrier>) -> Result<Secret, Problem> {
    let request = Request {
        method: Method::PUT,
        ..service.get(TOKEN)
    }
    .header("x-aws-ec2-metadata-token-ttl-seconds", LIFETIME);
    let answer = service.send(&request).await?;
    if answer.status != 200 {
        let trouble = Trouble::Status(answer.status);
        return Err(service.problem(&trouble, &request).remedy(&format!(
            "IMDSv2 gives no token: the instance's metadata service is switched off, or does not know version 2. Switch it on (aws ec2 modify-instance-metadata-options --http-endpoint enabled --http-tokens required), or {SWITCH_OFF}."
        )));
    }
    let token = std::str::from_utf8(&answer.body)
        .ok()
        .map(str::trim)
        .filter(|token| {
            !token.is_empty()
                && token.len() <= 4096
                && token.bytes().all(|byte| byte.is_ascii_graphic())
        });
    token
        .map(Secret::new)
        .ok_or_else(|| service.problem(&Trouble::NotHttp("the token is no token".into()), &request))
}

fn with_token(service: &Service<'_, impl Carrier>, path: &str, token: &Secret) -> Request {
    service
        .get(path)
        .header("x-aws-ec2-metadata-token", token.expose())
}
