#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#ifdef SHUFFLE
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
// What every shader begins with. Constant 0 is the threads of a group. Groups are counted in a line, which the
// host folds into two dimensions (65535 is the most that every device has in one).
layout(local_size_x_id = 0) in;

#define THREADS gl_WorkGroupSize.x

uint group_index() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }
uint thread_index() { return group_index() * THREADS + gl_LocalInvocationID.x; }
