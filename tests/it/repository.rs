//! The repository, against real stores: directories, an S3 server in this process, and Debian's `restic`.

mod support;

mod capture;
mod opening;
mod order;
