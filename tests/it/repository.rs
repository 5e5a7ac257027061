//! The repository, against real stores: directories, an S3 server in this process, and Debian's `restic`.

pub mod support;

mod capture;
mod cloud;
mod damage;
mod directory;
mod file_system;
mod hostile;
mod maintain;
mod memory;
mod opening;
mod order;
pub mod restic;
