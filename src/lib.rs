//! TenantAtlas: every long-running operation on a tenant's namespace is one record, one Job, one outcome.
