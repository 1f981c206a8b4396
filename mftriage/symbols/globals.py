"""C types of the kernel's global variables: the one thing that BTF does not have.

BTF lists types and per-CPU variables only, so in the btf tier a variable's address comes from
kallsyms and its type from this table.  A name that a kernel lacks is no harm; a type that is
wrong would be, so the names are checked against DWARF in the tests.
"""

from __future__ import annotations

GLOBALS: dict[str, str] = {
    # finding a task and its CPU
    "panic_cpu": "atomic_t",
    "nr_cpu_ids": "unsigned int",
    "__per_cpu_offset": "unsigned long [8192]",
    "__cpu_online_mask": "struct cpumask",
    "init_pid_ns": "struct pid_namespace",
    "init_task": "struct task_struct",
    # system
    "init_uts_ns": "struct uts_namespace",
    "tainted_mask": "unsigned long",
    "modules": "struct list_head",
    "mod_tree": "struct mod_tree_root",
    # memory map
    "mem_section": "struct mem_section **",
    "node_data": "struct pglist_data *[1024]",
    "contig_page_data": "struct pglist_data",
    "node_states": "nodemask_t [8]",
    "nr_node_ids": "unsigned int",
    "page_offset_base": "unsigned long",
    "vmemmap_base": "unsigned long",
    "memstart_addr": "s64",
    "saved_command_line": "char *",
    "kimage_voffset": "u64",
    "vabits_actual": "u64",
    "min_low_pfn": "unsigned long",
    "max_low_pfn": "unsigned long",
    "max_pfn": "unsigned long",
    "init_mm": "struct mm_struct",
    "memblock": "struct memblock",
    "iomem_resource": "struct resource",
    # who owns what
    "slab_caches": "struct list_head",
    "vmap_nodes": "struct vmap_node *",
    "nr_vmap_nodes": "int",
    "vmap_zone_size": "unsigned int",
    "vmap_area_root": "struct rb_root",
    "vmap_area_list": "struct list_head",
    "pcpu_nr_slots": "int",
    "pcpu_chunk_lists": "struct list_head *",
    "pcpu_first_chunk": "struct pcpu_chunk *",
    "pcpu_reserved_chunk": "struct pcpu_chunk *",
    "pcpu_base_addr": "void *",
    "pcpu_unit_size": "int",
    "pcpu_unit_offsets": "const unsigned long *",
    "pcpu_nr_units": "int",
    "hstates": "struct hstate [4]",
    "hugetlb_max_hstate": "int",
    # memory failures
    "num_poisoned_pages": "atomic_long_t",
    "hw_memory_failure": "bool",
    "sysctl_panic_on_unrecoverable_mf": "int",
    # hardware records
    "mce_evt_pool": "struct gen_pool *",
    "mce_event_llist": "struct llist_head",
    "ghes_estatus_pool": "struct gen_pool *",
    "ghes_estatus_caches": "struct ghes_estatus_cache *[4]",
    "ghes_devs": "struct list_head",
    "ghes_hed": "struct list_head",
    "ghes_sea": "struct list_head",
    "ghes_nmi": "struct list_head",
    "mc_devices": "struct list_head",
    "ce_arr": "struct ce_array",
    "btf_modules": "struct list_head",
    # SMBIOS
    "dmi_memdev": "struct dmi_memdev_info *",
    "dmi_memdev_nr": "int",
    "dmi_base": "phys_addr_t",
    "dmi_len": "u32",
    # time
    "shadow_timekeeper": "struct timekeeper",
}
