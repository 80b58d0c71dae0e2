using MendCluster.Torch;
using static MendCluster.Torch.Dispatcher;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>One line an operator, by PyTorch's names and meanings; its documentation is theirs.</summary>
    public sealed partial class Tensor
    {
        // Pointwise
        public Tensor abs() => Call("aten::abs", this);
        public Tensor add(Tensor target) => Call("aten::add.Tensor", this, target);
        public Tensor add(Tensor target, Scalar alpha) => Call("aten::add.Tensor", this, target, alpha);
        public Tensor add(Scalar scalar) => Call("aten::add.Scalar", this, scalar);
        public Tensor add_(Tensor target) => CallInPlace("aten::add_.Tensor", this, target);
        public Tensor add_(Tensor target, Scalar alpha) => CallInPlace("aten::add_.Tensor", this, target, alpha);
        public Tensor add_(Scalar scalar) => CallInPlace("aten::add_.Scalar", this, scalar);
        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2, Scalar value) => CallInPlace("aten::addcdiv_", this, tensor1, tensor2, value);
        public Tensor addcmul_(Tensor tensor1, Tensor tensor2, Scalar value) => CallInPlace("aten::addcmul_", this, tensor1, tensor2, value);
        public Tensor clamp(Scalar? min = null, Scalar? max = null) => Call("aten::clamp", this, min, max);
        public Tensor cos() => Call("aten::cos", this);
        public Tensor div(Tensor target) => Call("aten::div.Tensor", this, target);
        public Tensor div(Scalar target) => Call("aten::div.Scalar", this, target);
        public Tensor div_(Scalar target) => CallInPlace("aten::div_.Scalar", this, target);
        public Tensor exp() => Call("aten::exp", this);
        public Tensor log() => Call("aten::log", this);
        public Tensor mul(Tensor target) => Call("aten::mul.Tensor", this, target);
        public Tensor mul(Scalar target) => Call("aten::mul.Scalar", this, target);
        public Tensor mul_(Tensor target) => CallInPlace("aten::mul_.Tensor", this, target);
        public Tensor mul_(Scalar target) => CallInPlace("aten::mul_.Scalar", this, target);
        public Tensor neg() => Call("aten::neg", this);
        public Tensor pow(Scalar exponent) => Call("aten::pow.Tensor_Scalar", this, exponent);
        public Tensor relu() => Call("aten::relu", this);
        public Tensor rsqrt() => Call("aten::rsqrt", this);
        public Tensor sigmoid() => Call("aten::sigmoid", this);
        public Tensor sin() => Call("aten::sin", this);
        public Tensor sqrt() => Call("aten::sqrt", this);
        public Tensor sub(Tensor target) => Call("aten::sub.Tensor", this, target);
        public Tensor sub(Scalar target) => Call("aten::sub.Scalar", this, target);
        public Tensor sub_(Tensor target) => CallInPlace("aten::sub_.Tensor", this, target);
        public Tensor tanh() => Call("aten::tanh", this);

        // Comparison and truth
        public Tensor eq(Tensor target) => Call("aten::eq.Tensor", this, target);
        public Tensor eq(Scalar target) => Call("aten::eq.Scalar", this, target);
        public Tensor ge(Tensor target) => Call("aten::ge.Tensor", this, target);
        public Tensor ge(Scalar target) => Call("aten::ge.Scalar", this, target);
        public Tensor gt(Tensor target) => Call("aten::gt.Tensor", this, target);
        public Tensor gt(Scalar target) => Call("aten::gt.Scalar", this, target);
        public Tensor isfinite() => Call("aten::isfinite", this);
        public Tensor le(Tensor target) => Call("aten::le.Tensor", this, target);
        public Tensor le(Scalar target) => Call("aten::le.Scalar", this, target);
        public Tensor logical_and(Tensor other) => Call("aten::logical_and", this, other);
        public Tensor logical_not() => Call("aten::logical_not", this);
        public Tensor logical_or(Tensor other) => Call("aten::logical_or", this, other);
        public Tensor lt(Tensor target) => Call("aten::lt.Tensor", this, target);
        public Tensor lt(Scalar target) => Call("aten::lt.Scalar", this, target);
        public Tensor masked_fill(Tensor mask, Scalar value) => Call("aten::masked_fill.Scalar", this, mask, value);
        public Tensor ne(Tensor target) => Call("aten::ne.Tensor", this, target);
        public Tensor ne(Scalar target) => Call("aten::ne.Scalar", this, target);

        // Reductions
        public Tensor all() => Call("aten::all", this);
        public Tensor all(long dim, bool keepdim = false) => Call("aten::all.dim", this, dim, keepdim);
        public Tensor any() => Call("aten::any", this);
        public Tensor any(long dim, bool keepdim = false) => Call("aten::any.dim", this, dim, keepdim);
        public Tensor argmax() => Call("aten::argmax", this);
        public Tensor argmax(long dim, bool keepdim = false) => Call("aten::argmax", this, dim, keepdim);
        public Tensor cumsum(long dim) => Call("aten::cumsum", this, dim);
        public Tensor log_softmax(long dim) => Call("aten::log_softmax.int", this, dim);
        public Tensor logsumexp(long dim, bool keepdim = false) => Call("aten::logsumexp", this, (long[])[dim], keepdim);
        public Tensor max() => Call("aten::max", this);
        public Tensor mean() => Call("aten::mean", this);
        public Tensor mean(long[] dimensions, bool keepdim = false) => Call("aten::mean.dim", this, dimensions, keepdim);
        public Tensor min() => Call("aten::min", this);
        public Tensor norm() => Call("aten::norm.Scalar", this);
        public Tensor softmax(long dim) => Call("aten::softmax.int", this, dim);
        public Tensor std(bool unbiased = true) => Call("aten::std", this, unbiased);
        public Tensor sum() => Call("aten::sum", this);

        // Not sum(long dim): in the package sum(0) means sum(ScalarType.Byte), since a literal 0 converts to any enum.
        public Tensor sum(long[] dim, bool keepdim = false) => Call("aten::sum.dim_IntList", this, dim, keepdim);

        public (Tensor values, Tensor indexes) topk(int k, int dim = -1, bool largest = true, bool sorted = true)
        {
            var results = CallMany("aten::topk", this, (long)k, (long)dim, largest, sorted);
            return (results[0], results[1]);
        }

        // Products
        public Tensor bmm(Tensor batch2) => Call("aten::bmm", this, batch2);
        public Tensor cholesky_solve(Tensor input2, bool upper = false) => Call("aten::cholesky_solve", this, input2, upper);
        public Tensor matmul(Tensor target) => Call("aten::matmul", this, target);
        public Tensor mm(Tensor target) => Call("aten::mm", this, target);

        // Shape
        public Tensor contiguous() => Call("aten::contiguous", this);
        public Tensor expand(params long[] sizes) => Call("aten::expand", this, sizes);
        public Tensor flatten() => Call("aten::flatten.using_ints", this);
        public Tensor narrow(long dim, long start, long length) => Call("aten::narrow", this, dim, start, length);
        public Tensor permute(params long[] permutation) => Call("aten::permute", this, permutation);
        public Tensor reshape(params long[] shape) => Call("aten::reshape", this, shape);
        public Tensor select(long dim, long index) => Call("aten::select.int", this, dim, index);
        public Tensor[] split(long size, int dim = 0) => CallMany("aten::split.Tensor", this, size, (long)dim);
        public Tensor squeeze() => Call("aten::squeeze", this);
        public Tensor squeeze(long dim) => Call("aten::squeeze.dim", this, dim);
        public Tensor t() => Call("aten::t", this);
        public Tensor transpose(long dim0, long dim1) => Call("aten::transpose.int", this, dim0, dim1);
        public Tensor unsqueeze(long dim) => Call("aten::unsqueeze", this, dim);

        // Indexing
        public Tensor gather(long dim, Tensor index) => Call("aten::gather", this, dim, index);
        public Tensor index_add_(long dim, Tensor index, Tensor source, Scalar alpha) => CallInPlace("aten::index_add_", this, dim, index, source, alpha);
        public Tensor index_select(long dim, Tensor index) => Call("aten::index_select", this, dim, index);
        public Tensor nonzero() => Call("aten::nonzero", this);

        // Copies
        public Tensor clone() => Call("aten::clone", this);
        public Tensor copy_(Tensor source) => CallInPlace("aten::copy_", this, source);
        public Tensor cpu() => to(CPU);
        public Tensor detach() => Call("aten::detach", this);
        public Tensor to(Device device) => Call("aten::to.dtype_layout", this, Argument.None, Argument.None, device);
        public Tensor to_type(ScalarType type) => Call("aten::to.dtype", this, type);
        public Tensor zero_() => CallInPlace("aten::zero_", this);

        /// <summary>Makes autograd follow this leaf.</summary>
        public Tensor requires_grad_(bool requires_grad = true)
        {
            this.requires_grad = requires_grad;
            return this;
        }

        public static Tensor operator +(Tensor left, Tensor right) => left.add(right);
        public static Tensor operator +(Tensor left, Scalar right) => left.add(right);
        public static Tensor operator +(double left, Tensor right) => right.add(left);
        public static Tensor operator -(Tensor left, Tensor right) => left.sub(right);
        public static Tensor operator -(Tensor left, Scalar right) => left.sub(right);
        public static Tensor operator -(double left, Tensor right) => right.neg().add(left);
        public static Tensor operator *(Tensor left, Tensor right) => left.mul(right);
        public static Tensor operator *(Tensor left, Scalar right) => left.mul(right);
        public static Tensor operator *(double left, Tensor right) => right.mul(left);
        public static Tensor operator /(Tensor left, Tensor right) => left.div(right);
        public static Tensor operator /(Tensor left, Scalar right) => left.div(right);
        public static Tensor operator -(Tensor tensor) => tensor.neg();
    }
}
