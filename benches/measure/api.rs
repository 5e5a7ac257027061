//! Requests as JSON: the same few bytes of work on both sides of a comparison.

use crate::Result;
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// Where runs of a namespace are.
pub fn runs(namespace: &str) -> String {
    format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/operationruns")
}

/// Where Jobs of a namespace are.
pub fn jobs(namespace: &str) -> String {
    format!("/apis/batch/v1/namespaces/{namespace}/jobs")
}

/// Creates an object; the answer's status code, whichever it is.
pub async fn try_create(client: &Client, path: &str, object: &Value) -> Result<u16> {
    match client.request_text(request(Method::POST, path, object)?).await {
        Ok(_) => Ok(201),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error.into()),
    }
}

/// Creates an object.
pub async fn create(client: &Client, path: &str, object: &Value) -> Result<Value> {
    let made = client.request(request(Method::POST, path, object)?).await;
    made.map_err(|error| format!("create at {path}: {error}").into())
}

/// Replaces an object.
pub async fn replace(client: &Client, path: &str, object: &Value) -> Result<()> {
    let replaced = client.request_text(request(Method::PUT, path, object)?).await;
    replaced.map_err(|error| format!("replace {path}: {error}"))?;
    Ok(())
}

/// Merges into an object, or into its status with `…/status`.
pub async fn merge(client: &Client, path: &str, patch: &Value) -> Result<()> {
    let mut request = request(Method::PATCH, path, patch)?;
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/merge-patch+json"));
    client.request_text(request).await.map_err(|error| format!("patch {path}: {error}"))?;
    Ok(())
}

/// Reads an object or a list.
pub async fn get(client: &Client, path: &str) -> Result<Value> {
    let read = client.request(Request::get(path).body(Vec::new())?).await;
    read.map_err(|error| format!("get {path}: {error}").into())
}

/// Deletes one object or all of a path; absent ones are no fault.
pub async fn delete(client: &Client, path: &str) -> Result<()> {
    match client.request_text(Request::delete(path).body(Vec::new())?).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(format!("delete {path}: {error}").into()),
    }
}

/// Where a list goes on, read without parsing the page. Its metadata is before the items or after them, depending on the kind.
pub fn continue_token(page: &str) -> Option<String> {
    let begins = page.len().min(1_000);
    let ends = page.len().saturating_sub(1_000);
    let around = [page.get(..begins).unwrap_or_default(), page.get(ends..).unwrap_or_default()];
    let token = around.iter().find_map(|text| text.split("\"continue\":\"").nth(1)?.split('"').next());
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

fn request(method: Method, path: &str, body: &Value) -> Result<Request<Vec<u8>>> {
    let builder = Request::builder().method(method).uri(path).header("content-type", "application/json");
    Ok(builder.body(serde_json::to_vec(body)?)?)
}
