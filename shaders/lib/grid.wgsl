// The number of a workgroup. The plan folds grids of more than 32,768 workgroups into two dimensions; this unfolds them.
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
