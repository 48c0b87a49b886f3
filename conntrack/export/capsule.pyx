"""Arrow's C data interface: arrays handed out as PyCapsules, without a copy and without pyarrow.

Owns the three C structs, their release callbacks and who keeps the buffers alive. Knows no column and no dtype:
arrow.py says the formats and the buffers. Read with arrow.apache.org/docs/format: CDataInterface, CStreamInterface and
CDataInterface/PyCapsuleInterface.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EIO
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:                              # ArrowSchema.flags
    ARROW_FLAG_NULLABLE = 2

cdef struct ArrowSchema:
    const char* format
    const char* name
    const char* metadata
    int64_t flags
    int64_t n_children
    ArrowSchema** children
    ArrowSchema* dictionary
    void (*release)(ArrowSchema*) noexcept
    void* private_data

cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void** buffers
    ArrowArray** children
    ArrowArray* dictionary
    void (*release)(ArrowArray*) noexcept
    void* private_data

cdef struct ArrowArrayStream:
    int (*get_schema)(ArrowArrayStream*, ArrowSchema*) noexcept
    int (*get_next)(ArrowArrayStream*, ArrowArray*) noexcept
    const char* (*get_last_error)(ArrowArrayStream*) noexcept
    void (*release)(ArrowArrayStream*) noexcept
    void* private_data

cdef char NOTHING = 0                   # what an empty buffer points to


# A struct's private_data is one reference to the Python object whose memory it shows. A release callback may come from
# any thread, and only once: it then marks the struct as released.

cdef void _release_schema(ArrowSchema* schema) noexcept with gil:
    cdef int64_t i
    for i in range(schema.n_children):
        if schema.children[i].release != NULL:
            schema.children[i].release(schema.children[i])
        free(schema.children[i])
    free(schema.children)
    if schema.dictionary != NULL:
        if schema.dictionary.release != NULL:
            schema.dictionary.release(schema.dictionary)
        free(schema.dictionary)
    schema.release = NULL
    Py_DECREF(<object>schema.private_data)


cdef void _release_array(ArrowArray* array) noexcept with gil:
    cdef int64_t i
    for i in range(array.n_children):
        if array.children[i].release != NULL:
            array.children[i].release(array.children[i])
        free(array.children[i])
    free(array.children)
    free(array.buffers)
    if array.dictionary != NULL:
        if array.dictionary.release != NULL:
            array.dictionary.release(array.dictionary)
        free(array.dictionary)
    array.release = NULL
    Py_DECREF(<object>array.private_data)


cdef void* _taken(size_t count, size_t size) except NULL:
    cdef void* memory = calloc(count if count else 1, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef int _fill_schema(ArrowSchema* out, field) except -1:
    # `out` is all zero. On an error it is released again.
    cdef bytes form = field.format.encode()
    cdef bytes name = field.name.encode()
    cdef bytes metadata = field.metadata
    kept = (form, name, metadata)
    out.format = form
    out.name = name
    if metadata:
        out.metadata = metadata
    out.flags = ARROW_FLAG_NULLABLE if field.nullable else 0
    Py_INCREF(kept)
    out.private_data = <void*>kept
    out.release = _release_schema
    try:
        out.children = <ArrowSchema**>_taken(len(field.children), sizeof(void*))
        for child in field.children:
            out.children[out.n_children] = <ArrowSchema*>_taken(1, sizeof(ArrowSchema))
            out.n_children += 1
            _fill_schema(out.children[out.n_children - 1], child)
        if field.dictionary is not None:
            out.dictionary = <ArrowSchema*>_taken(1, sizeof(ArrowSchema))
            _fill_schema(out.dictionary, field.dictionary)
    except BaseException:
        out.release(out)
        raise
    return 0


cdef int _fill_array(ArrowArray* out, array) except -1:
    # As _fill_schema.
    cdef size_t address
    out.length = array.length
    out.null_count = array.null_count
    Py_INCREF(array)
    out.private_data = <void*>array
    out.release = _release_array
    try:
        out.buffers = <const void**>_taken(len(array.buffers), sizeof(void*))
        for buffer in array.buffers:
            if buffer is None:
                address = 0
            elif buffer.size == 0:
                address = <size_t>&NOTHING
            else:
                address = buffer.ctypes.data
            out.buffers[out.n_buffers] = <const void*>address
            out.n_buffers += 1
        out.children = <ArrowArray**>_taken(len(array.children), sizeof(void*))
        for child in array.children:
            out.children[out.n_children] = <ArrowArray*>_taken(1, sizeof(ArrowArray))
            out.n_children += 1
            _fill_array(out.children[out.n_children - 1], child)
        if array.dictionary is not None:
            out.dictionary = <ArrowArray*>_taken(1, sizeof(ArrowArray))
            _fill_array(out.dictionary, array.dictionary)
    except BaseException:
        out.release(out)
        raise
    return 0


cdef class _Source:
    # What a stream's private_data keeps: the field, the arrays still to come, the last error's words.
    cdef object field
    cdef object arrays
    cdef bytes error


cdef int _get_schema(ArrowArrayStream* stream, ArrowSchema* out) noexcept with gil:
    cdef _Source source = <_Source>stream.private_data
    memset(out, 0, sizeof(ArrowSchema))
    try:
        _fill_schema(out, source.field)
    except BaseException as error:
        source.error = repr(error).encode()
        return EIO
    return 0


cdef int _get_next(ArrowArrayStream* stream, ArrowArray* out) noexcept with gil:
    cdef _Source source = <_Source>stream.private_data
    memset(out, 0, sizeof(ArrowArray))
    try:
        array = next(source.arrays, None)
        if array is not None:
            _fill_array(out, array)
    except BaseException as error:
        source.error = str(error).encode(errors="replace") or repr(error).encode()
        return EIO
    return 0


cdef const char* _get_last_error(ArrowArrayStream* stream) noexcept with gil:
    cdef _Source source = <_Source>stream.private_data
    if source.error is None:
        return NULL
    return source.error


cdef void _release_stream(ArrowArrayStream* stream) noexcept with gil:
    stream.release = NULL
    Py_DECREF(<object>stream.private_data)


cdef void _drop_schema(object capsule) noexcept:
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:              # nobody has taken it
        schema.release(schema)
    free(schema)


cdef void _drop_stream(object capsule) noexcept:
    cdef ArrowArrayStream* stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.release != NULL:
        stream.release(stream)
    free(stream)


def schema_capsule(field):
    """Return the "arrow_schema" capsule of `field` (arrow.Field)."""
    cdef ArrowSchema* schema = <ArrowSchema*>_taken(1, sizeof(ArrowSchema))
    try:
        _fill_schema(schema, field)
        return PyCapsule_New(schema, "arrow_schema", <void (*)(object) noexcept>_drop_schema)
    except BaseException:
        free(schema)
        raise


def stream_capsule(field, arrays):
    """Return the "arrow_array_stream" capsule of record batches.

    Args:
        field: arrow.Field of format "+s", the schema of every batch.
        arrays: an iterator of arrow.Array; each is made when the consumer asks for it. What it raises, the consumer
            gets as its own kind of error, with the same words.
    """
    cdef ArrowArrayStream* stream = <ArrowArrayStream*>_taken(1, sizeof(ArrowArrayStream))
    cdef _Source source = _Source.__new__(_Source)
    source.field = field
    source.arrays = arrays
    stream.get_schema = _get_schema
    stream.get_next = _get_next
    stream.get_last_error = _get_last_error
    stream.release = _release_stream
    Py_INCREF(source)
    stream.private_data = <void*>source
    try:
        return PyCapsule_New(stream, "arrow_array_stream", <void (*)(object) noexcept>_drop_stream)
    except BaseException:
        stream.release(stream)
        free(stream)
        raise
