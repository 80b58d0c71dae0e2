using MendCluster.Contracts;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Orleans.Tests;

public class ParcelRoomTests
{
    private static readonly Answer Large = new(new string('x', 3 * ParcelPiece.MostBytes), new(1));

    private readonly ManualTime _time = new();

    [Fact]
    public void PiecesInAnyOrderAndTwice_MakeTheMessage()
    {
        var (from, to) = (new ParcelRoom(_time), new ParcelRoom(_time));
        var slip = from.Give(Large).Slip!;
        var pieces = ParcelPiece.Of(slip.Lengths).Reverse().ToList();
        foreach (var piece in pieces.Concat(pieces))
            to.Put(slip, piece, from.Get(slip.Id, piece).Span);
        Assert.Equal(Large, to.Take(new Parcel<Answer>(null, slip)));
    }

    [Fact]
    public void AMessageThatIsNotWhole_IsALostShard()
    {
        var (from, to) = (new ParcelRoom(_time), new ParcelRoom(_time));
        var slip = from.Give(Large).Slip!;
        foreach (var piece in ParcelPiece.Of(slip.Lengths).Skip(1))
            to.Put(slip, piece, from.Get(slip.Id, piece).Span);
        Assert.Equal(MendError.ShardLost, Error(() => to.Take(new Parcel<Answer>(null, slip))));
    }

    [Fact]
    public void WhatNobodyFetches_IsThrownAwayAfterAWhile()
    {
        var room = new ParcelRoom(_time);
        var first = room.Give(Large).Slip!;
        _time.Advance(TimeSpan.FromMinutes(1));
        room.Give(Large);
        Assert.Equal(1 << 20, room.Get(first.Id, ParcelPiece.Of(first.Lengths).First()).Length); // and being touched counts
        _time.Advance(TimeSpan.FromMinutes(3));
        room.Give(Large);
        Assert.Equal(MendError.ShardLost, Error(() => room.Get(first.Id, ParcelPiece.Of(first.Lengths).First())));
    }

    [Fact]
    public void PiecesOutsideTheirParcel_AreRefused()
    {
        var room = new ParcelRoom(_time);
        var slip = new ParcelSlip(Guid.NewGuid(), [10, 5]);
        foreach (var piece in new ParcelPiece[] { new(-1, 0, 1), new(2, 0, 1), new(0, -1, 1), new(0, 10, 1), new(0, 8, 3), new(1, int.MaxValue, 5), new(0, 0, 0) })
            Assert.Equal(MendError.InvalidOption, Error(() => room.Put(slip, piece, new byte[Math.Max(0, piece.Length)])));
        Assert.Equal(MendError.InvalidOption, Error(() => room.Put(slip, new(0, 0, 4), new byte[3])));
        Assert.Equal(MendError.InvalidOption, Error(() => room.Put(new(Guid.NewGuid(), [-1]), new(0, 0, 1), new byte[1])));
        Assert.Equal(MendError.ShardLost, Error(() => room.Put(new(Guid.NewGuid(), [int.MaxValue, int.MaxValue]), new(0, 0, 1), new byte[1])));
    }

    private static MendError Error(Action call) => Assert.Throws<MendException>(call).Error;

    private sealed class ManualTime : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public void Advance(TimeSpan by) => _now += by.Ticks;
    }
}
