# Nothing for other modules in C: they call show_as_public() once, when they are imported.
