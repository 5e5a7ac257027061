//! stub until the worker's branch brings it
pub fn redact(text: &str) -> String {
    text.to_owned()
}
