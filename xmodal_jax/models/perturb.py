"""Activations that can be read and nudged from outside: for gradients with respect to what a layer gave."""


def perturbed(module, name, x):
    """x, plus the variable `name` of the collection "perturbations" where that is given; sown as the intermediate `name`.

    The gradient with respect to that variable, at zeros, is the one with respect to x. Without it nothing is added or made,
    unlike with `module.perturb`, which makes the variable in `init` and wants either none or all of a model's.
    """
    if module.has_variable("perturbations", name):
        x = x + module.get_variable("perturbations", name).astype(x.dtype)
    module.sow("intermediates", name, x)
    return x
