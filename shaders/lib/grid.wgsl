// The number of a workgroup. The plan folds grids of more than 32,768 workgroups into two dimensions; this unfolds them.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

// The number of a thread among those of all workgroups, in kernels with 64 threads per workgroup. `thread` is its
// local_invocation_index.
fn thread_index(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return group_index(group, groups) * 64u + thread;
}
