/* libFuzzer's target: it hands each input to one_input() of target.py, where the encoder reads it.

   libFuzzer keeps an input in memory of exactly its size, so AddressSanitizer sees each read beyond its end. */

#include <Python.h>

static PyObject *one_input;

static void stop(void) {
    PyErr_Print();
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    Py_Initialize();
    PyObject *module = PyImport_ImportModule("target");
    if (module == NULL || (one_input = PyObject_GetAttrString(module, "one_input")) == NULL) stop();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    PyObject *view = PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);
    PyObject *result = view == NULL ? NULL : PyObject_CallOneArg(one_input, view);
    if (result == NULL) stop();
    Py_DECREF(result);
    Py_DECREF(view);
    return 0;
}
