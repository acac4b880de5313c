//! Azure Blob Storage: where an account is, how it is reached by its key, and what its answers mean.

use hyper::http::{HeaderMap, Method, StatusCode};
use opendal::Operator;
use opendal::services::Azblob;

use super::{Way, transport};
use crate::object::error::ErrorKind;
use crate::object::fault::{self, Fault};
use crate::object::remote::{RemoteSettings, is_authority};

#[cfg(test)]
mod tests;

/// What a refusal is called, in every one of them (learn.microsoft.com/rest/api/storageservices, "Status and error codes").
const CODE: &str = "x-ms-error-code";
/// Longest code that is shown, in bytes. The longest that Microsoft lists has 44.
const CODE_BYTES_MAX: usize = 64;

/// How a container is spoken to; or the end of a sentence that says what is wrong with the settings.
pub(super) fn way(container: &str, settings: &RemoteSettings) -> Result<Way, String> {
    let account = settings.azure_account.as_deref().filter(|account| {
        !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let (Some(account), Some(key)) = (account, &settings.azure_key) else {
        return Err("AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY must both be set".to_owned());
    };
    if !is_base64(key.expose()) {
        return Err("AZURE_STORAGE_KEY is no key of an account, which is base64".to_owned());
    }
    let endpoint = endpoint(account, settings.azure_endpoint.as_deref())?;
    let builder = Azblob::default()
        .endpoint(&endpoint)
        .container(container)
        .account_name(account)
        .account_key(key.expose())
        .root("/");
    let operator = Operator::new(builder).map_err(|error| fault::root(&error))?;
    Ok(Way { operator, judge, is_plain: endpoint.starts_with("http://") })
}

/// The service of an account: the public cloud's, or the one that was given, such as another cloud's, or an emulator's, which has
/// the account in its path.
fn endpoint(account: &str, given: Option<&str>) -> Result<String, String> {
    let Some(given) = given else {
        return Ok(format!("https://{account}.blob.core.windows.net"));
    };
    let whole = given.trim_end_matches('/');
    let below = whole.strip_prefix("https://").or_else(|| whole.strip_prefix("http://"));
    let is_usable = below.is_some_and(|below| {
        let (authority, path) = below.split_once('/').unwrap_or((below, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
        is_authority(authority) && path.chars().all(is_plain)
    });
    match is_usable {
        true => Ok(whole.to_owned()),
        // Not repeated: there may be a signature in it.
        false => Err("AZURE_STORAGE_SERVICE_ENDPOINT is not of the form https://host or https://host/account".to_owned()),
    }
}

/// RFC 4648, section 4.
fn is_base64(text: &str) -> bool {
    let content = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !content.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - content.len() <= 2
        && content.bytes().all(is_digit)
}

/// The [`transport::Judge`] of Azure, which says by a code what a status does not. What opendal needs to see is that a blob does
/// not exist.
fn judge(method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    let number = status.as_u16();
    let code = headers.get(CODE).and_then(|code| code.to_str().ok()).unwrap_or_default();
    let is_code =
        code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let code = if is_code { code } else { "" };
    let said = match code {
        "" => format!("HTTP {number}"),
        code => format!("HTTP {number}, {code}"),
    };
    let lasting = |kind, reason: &str| Some(Fault::lasting(kind, format!("{reason} ({said})")));
    match (number, code) {
        (404, "BlobNotFound" | "ResourceNotFound") => None,
        (404, "ContainerNotFound") => lasting(ErrorKind::NoBucket, "the container does not exist"),
        // A proxy says it while the service is away, and what is taken for missing may be needed.
        (404, _) => Some(Fault::temporary(format!(
            "something is missing, and it is not said what ({said})"
        ))),
        (401, _) | (403, "AuthenticationFailed") => lasting(
            ErrorKind::Denied,
            "the account and the key do not belong together, or the clock of this host is wrong",
        ),
        (409, "ContainerBeingDeleted") => {
            lasting(ErrorKind::NoBucket, "the container is being deleted")
        }
        (409, "BlobArchived" | "BlobBeingRehydrated") => {
            lasting(ErrorKind::Denied, "it is in the archive tier and has to be rehydrated first")
        }
        (409, "BlobImmutableDueToLegalHold" | "BlobImmutableDueToPolicy") => {
            lasting(ErrorKind::Denied, "a policy of the container keeps it as it is")
        }
        // Of a condition, which another writer may have come before.
        (409, "BlobAlreadyExists") | (412, "ConditionNotMet") => {
            Some(Fault::temporary(format!("something has that name ({said})")))
        }
        (409 | 412, code) if !code.is_empty() => {
            lasting(ErrorKind::Denied, &format!("the store refuses {method}"))
        }
        _ => transport::by_status(method, status, headers, &said),
    }
}
