//! What a list of metadata alone costs beside a list of whole objects: how much cheaper a capture of
//! an unchanged tenant could become that reads only what its last snapshot does not have.

use super::Plan;
use super::objects::fill;
use crate::bed::Bed;
use crate::report::{Report, count, median, ratios};
use crate::{Result, api};
use http::Request;
use serde_json::Value;
use std::time::Instant;

/// What a list answers with.
#[derive(Clone, Copy)]
enum Form {
    /// Whole objects, as JSON that is parsed.
    Whole,
    /// Metadata, as JSON that is parsed.
    Metadata,
    /// Metadata, as JSON of which only the token to continue is read. No parser can be faster.
    Unparsed,
}

impl Form {
    fn accept(self) -> &'static str {
        match self {
            Self::Whole => "application/json",
            Self::Metadata | Self::Unparsed => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        }
    }
}

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let size = plan.size(20_000, 100);
    let mut report = Report::new(
        "What metadata alone would prove",
        format!(
            "{size} objects, half ConfigMaps, half Secrets, 2,000 bytes of data each. A bare client lists both kinds in pages of 500: whole and parsed; as PartialObjectMetadata \
             and parsed; and as PartialObjectMetadata of which only the token to continue is read, which no parser can beat. Nothing of ours takes part: uid and resourceVersion of an \
             object that did not change would let a capture skip it, and this is the most that it could gain."
        ),
        plan.quick,
    );
    let namespace = bed.tenant("metadata", false).await?;
    fill(bed, &namespace, 0, size).await?;
    let (mut whole, mut metadata, mut unparsed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.repetitions {
        for (form, rates) in
            [(Form::Whole, &mut whole), (Form::Metadata, &mut metadata), (Form::Unparsed, &mut unparsed)]
        {
            let begun = Instant::now();
            list(bed, &namespace, form).await?;
            rates.push(count(size) / begun.elapsed().as_secs_f64());
        }
    }
    report.figure("metadata, parsed: times the rate of whole objects", median(&ratios(&metadata, &whole)), "×");
    report.figure("metadata, not parsed: times the rate of whole objects", median(&ratios(&unparsed, &whole)), "×");
    report.samples("whole objects", "/s", &whole);
    report.samples("metadata", "/s", &metadata);
    report.samples("metadata, not parsed", "/s", &unparsed);
    Ok(report)
}

async fn list(bed: &Bed, namespace: &str, form: Form) -> Result<()> {
    for plural in ["configmaps", "secrets"] {
        let mut next = String::new();
        loop {
            let uri = format!("/api/v1/namespaces/{namespace}/{plural}?limit=500&continue={next}");
            let request = Request::get(uri).header("accept", form.accept()).body(Vec::new())?;
            let page = bed.client.request_text(request).await?;
            let token = match form {
                Form::Unparsed => api::continue_token(&page),
                Form::Whole | Form::Metadata => {
                    let page: Value = serde_json::from_str(&page)?;
                    page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
                }
            };
            match token {
                Some(token) => next = token,
                None => break,
            }
        }
    }
    Ok(())
}
