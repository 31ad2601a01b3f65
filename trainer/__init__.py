"""Dataset ready -> claimed run -> trained, evaluated adapter. Torch lives in the worker only; the service never imports it."""
